//! Pages of a sealed file, decompressed with contexts that are used again: making one for every column of every read, as
//! the Parquet reader does, took a third of a search that finds ten rows in ten files.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;
use zstd::zstd_safe;

/// Bytes of a page after decompression that are taken at most.
const PAGE_BYTES_MAX: u64 = 1 << 30;
/// Contexts that are kept for later.
const KEPT_MAX: usize = 8;

/// Decompression contexts that wait for use.
#[derive(Default)]
pub(crate) struct Decompressors(Mutex<Vec<Decompressor<'static>>>);

impl Decompressors {
    fn take(&self) -> Result<Decompressor<'static>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| Decompressor::new().map_err(|error| ParquetError::External(Box::new(error))), Ok)
    }

    fn put(&self, decompressor: Decompressor<'static>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(decompressor);
        }
    }

    /// What was packed, at most `len` bytes; `None` when it is damaged.
    pub(crate) fn unpacked(&self, packed: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut decompressor = self.take().ok()?;
        let content = decompressor.decompress(packed, len).ok();
        self.put(decompressor);
        content
    }

    /// The content of a page whose first `plain` bytes are not compressed.
    fn decompress(&self, stored: &Bytes, plain: usize) -> Result<Bytes> {
        let bad = || ParquetError::General("a page is damaged".to_owned());
        let (levels, packed) = stored.split_at_checked(plain).ok_or_else(bad)?;
        if packed.is_empty() {
            return Ok(stored.clone());
        }
        let len = zstd_safe::get_frame_content_size(packed).ok().flatten().filter(|len| *len <= PAGE_BYTES_MAX);
        let len = len.and_then(|len| usize::try_from(len).ok()).ok_or_else(bad)?;
        let mut decompressor = self.take()?;
        let content = if levels.is_empty() {
            let mut content = Vec::with_capacity(len);
            decompressor.decompress_to_buffer(packed, &mut content).map_err(|_| bad())?;
            content
        } else {
            let content = decompressor.decompress(packed, len).map_err(|_| bad())?;
            [levels, content.as_slice()].concat()
        };
        self.put(decompressor);
        Ok(content.into())
    }
}

/// Row groups of a file, as the Parquet reader asks for them.
pub(crate) struct Groups<R: ChunkReader> {
    pub(crate) reader: Arc<R>,
    pub(crate) parquet: Arc<ParquetMetaData>,
    /// Which row groups are read, ascending.
    pub(crate) groups: Vec<usize>,
    pub(crate) decompressors: Arc<Decompressors>,
}

impl<R: ChunkReader + 'static> RowGroups for Groups<R> {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            reader: Arc::clone(&self.reader),
            parquet: Arc::clone(&self.parquet),
            groups: self.groups.clone().into_iter(),
            decompressors: Arc::clone(&self.decompressors),
            column,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.groups.iter().filter_map(|group| self.parquet.row_groups().get(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.parquet
    }
}

/// The chunks of one column, row group by row group.
struct Chunks<R: ChunkReader> {
    reader: Arc<R>,
    parquet: Arc<ParquetMetaData>,
    groups: std::vec::IntoIter<usize>,
    decompressors: Arc<Decompressors>,
    column: usize,
}

impl<R: ChunkReader + 'static> Chunks<R> {
    fn chunk(&self, index: usize) -> Result<Box<dyn PageReader>> {
        let bad = || ParquetError::General("a row group is missing".to_owned());
        let group = self.parquet.row_groups().get(index).ok_or_else(bad)?;
        let chunk = group.columns().get(self.column).ok_or_else(bad)?;
        let rows = usize::try_from(group.num_rows()).map_err(|_| bad())?;
        let places = self
            .parquet
            .offset_index()
            .and_then(|groups| groups.get(index)?.get(self.column))
            .map(|column| column.page_locations().clone());
        if !matches!(chunk.compression(), Compression::ZSTD(_)) {
            return Ok(Box::new(SerializedPageReader::new(Arc::clone(&self.reader), chunk, rows, places)?));
        }
        // Said to be not compressed, pages come as they are stored.
        let stored = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let inner = SerializedPageReader::new(Arc::clone(&self.reader), &stored, rows, places)?;
        Ok(Box::new(Pages { inner, decompressors: Arc::clone(&self.decompressors) }))
    }
}

impl<R: ChunkReader + 'static> Iterator for Chunks<R> {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.groups.next()?;
        Some(self.chunk(index))
    }
}

impl<R: ChunkReader + 'static> PageIterator for Chunks<R> {}

/// Pages of one column chunk.
struct Pages<R: ChunkReader> {
    inner: SerializedPageReader<R>,
    decompressors: Arc<Decompressors>,
}

impl<R: ChunkReader> Pages<R> {
    fn unpack(&self, page: Page) -> Result<Page> {
        Ok(match page {
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => {
                let buf = self.decompressors.decompress(&buf, 0)?;
                Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                let levels = def_levels_byte_len as usize + rep_levels_byte_len as usize;
                let buf = if is_compressed { self.decompressors.decompress(&buf, levels)? } else { buf };
                Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed,
                    statistics,
                }
            }
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                let buf = self.decompressors.decompress(&buf, 0)?;
                Page::DictionaryPage { buf, num_values, encoding, is_sorted }
            }
        })
    }
}

impl<R: ChunkReader> Iterator for Pages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for Pages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        page.map(|page| self.unpack(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}
