// CodeMirror, set up for a search on one line and for SQL. Loaded when first needed. It lives in a shadow root: there its
// styles are constructed sheets, which the page's policy against inline styles allows.
import { acceptCompletion, autocompletion, closeBrackets, type CompletionContext, completionKeymap, type CompletionResult, completionStatus, selectedCompletionIndex, setSelectedCompletion, startCompletion } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { sql, type SQLNamespace, StandardSQL } from '@codemirror/lang-sql';
import { HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { Compartment, EditorState, Prec, StateEffect, StateField, type Range } from '@codemirror/state';
import { Decoration, type DecorationSet, EditorView, keymap, placeholder, ViewPlugin, type ViewUpdate } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { Choices } from './complete';
import { onOneLine, pieces } from './query';

export interface Fault {
  from: number;
  to: number;
}

export interface Editor {
  text(): string;
  setText(text: string): void;
  setFault(fault: Fault | undefined): void;
  focus(): void;
  destroy(): void;
}

const setFault = StateEffect.define<Fault | undefined>();
const fault = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(old, transaction) {
    let set = transaction.docChanged ? Decoration.none : old;
    for (const effect of transaction.effects) {
      if (!effect.is(setFault)) continue;
      const end = transaction.newDoc.length;
      const { from, to } = effect.value ?? { from: 0, to: 0 };
      const start = Math.min(from, Math.max(0, end - 1));
      const stop = Math.min(Math.max(to, start + 1), end);
      set = effect.value && stop > start ? Decoration.set([Decoration.mark({ class: 'tl-fault' }).range(start, stop)]) : Decoration.none;
    }
    return set;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const colours = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;
    constructor(view: EditorView) {
      this.decorations = coloured(view);
    }
    update(update: ViewUpdate) {
      if (update.docChanged) this.decorations = coloured(update.view);
    }
  },
  { decorations: (plugin) => plugin.decorations },
);

function coloured(view: EditorView): DecorationSet {
  const marks: Range<Decoration>[] = pieces(view.state.doc.toString()).map((piece) =>
    Decoration.mark({ class: `tl-${piece.kind}` }).range(piece.from, piece.to),
  );
  return Decoration.set(marks);
}

const look = EditorView.theme({
  '&': { fontSize: '13px', color: 'var(--text)', backgroundColor: 'transparent', height: '100%' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.5' },
  '.cm-content': { caretColor: 'var(--accent)', padding: '0' },
  '.cm-line': { padding: '0' },
  '.cm-cursor': { borderLeftColor: 'var(--accent)', borderLeftWidth: '2px' },
  '.cm-placeholder': { color: 'var(--text-3)' },
  '&.cm-focused .cm-selectionBackground, .cm-selectionBackground, ::selection': { backgroundColor: 'light-dark(oklch(0.82 0.08 190 / 0.6), oklch(0.6 0.09 190 / 0.5)) !important' },
  '.tl-field': { color: 'var(--accent)' },
  '.tl-op, .tl-paren': { color: 'var(--text-3)' },
  '.tl-string, .tl-value': { color: 'var(--text)' },
  '.tl-regex': { color: 'var(--critical)' },
  '.tl-keyword': { color: 'var(--critical)', fontWeight: '600' },
  '.tl-not': { color: 'var(--error)', fontWeight: '600' },
  '.tl-fault': { textDecoration: 'underline wavy var(--error-fill)', textDecorationSkipInk: 'none', textUnderlineOffset: '3px' },
  '.cm-tooltip': { border: '1px solid var(--line)', borderRadius: '10px', backgroundColor: 'var(--raised)', boxShadow: 'var(--shadow)', overflow: 'hidden' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--mono)', fontSize: '12px', maxHeight: '320px', padding: '5px', minWidth: '260px', maxWidth: 'min(560px, 92vw)' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li': { padding: '4px 9px', borderRadius: '6px', display: 'flex', justifyContent: 'space-between', gap: '24px', lineHeight: '1.4' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]': { backgroundColor: 'var(--accent-soft)', color: 'var(--text)' },
  '.cm-completionMatchedText': { textDecoration: 'none', color: 'var(--accent)', fontWeight: '600' },
  '.cm-completionDetail': { color: 'var(--text-3)', fontStyle: 'normal', fontFamily: 'var(--sans)', fontSize: '11px', marginLeft: '0', alignSelf: 'center' },
});

function view(host: HTMLElement, state: EditorState): EditorView {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open', delegatesFocus: true });
  return new EditorView({ state, parent: root, root });
}

function editor(of: EditorView): Editor {
  return {
    text: () => of.state.doc.toString(),
    setText(text) {
      if (text === of.state.doc.toString()) return;
      of.dispatch({ changes: { from: 0, to: of.state.doc.length, insert: text }, selection: { anchor: text.length } });
    },
    setFault: (found) => of.dispatch({ effects: setFault.of(found) }),
    focus: () => of.focus(),
    destroy: () => of.destroy(),
  };
}

export interface SearchOptions {
  text: string;
  label: string;
  placeholder: string;
  complete: (text: string, position: number) => Promise<Choices | undefined>;
  onchange: (text: string) => void;
  onsubmit: () => void;
  onescape: () => void;
}

/** One line for a search. */
export function searchEditor(host: HTMLElement, options: SearchOptions): Editor {
  const source = async (context: CompletionContext): Promise<CompletionResult | null> => {
    const found = await options.complete(context.state.doc.toString(), context.pos);
    if (!found || found.choices.length === 0) return null;
    // An empty place offers something only when asked, or after a space or an operator.
    return {
      from: found.from,
      to: found.to,
      filter: false,
      options: found.choices.map((choice) => ({
        label: choice.label,
        ...(choice.detail === undefined ? {} : { detail: choice.detail }),
        type: choice.kind,
        apply(of, _completion, from, to) {
          // The space after a value is there once.
          const next = of.state.sliceDoc(to, to + 1);
          const text = choice.apply.endsWith(' ') && next === ' ' ? choice.apply.slice(0, -1) : choice.apply;
          of.dispatch({ changes: { from, to, insert: text }, selection: { anchor: from + text.length } });
          if (choice.kind === 'field') startCompletion(of);
        },
      })),
    };
  };
  const state = EditorState.create({
    doc: options.text,
    selection: { anchor: options.text.length },
    extensions: [
      EditorView.theme({ '.cm-scroller': { overflowX: 'auto', scrollbarWidth: 'none' } }),
      look,
      history(),
      closeBrackets(),
      colours,
      fault,
      placeholder(options.placeholder),
      EditorView.contentAttributes.of({ 'aria-label': options.label, 'aria-multiline': 'false', tabindex: '0', autocapitalize: 'off', spellcheck: 'false' }),
      // One line: what is pasted over several becomes one, and still means the same.
      EditorState.transactionFilter.of((transaction) => {
        const before = transaction.newDoc;
        if (before.lines === 1) return transaction;
        const insert = onOneLine(before.toString());
        return [transaction, { changes: { from: 0, to: before.length, insert }, selection: { anchor: insert.length }, sequential: true }];
      }),
      autocompletion({ override: [source], icons: false, activateOnTyping: true, defaultKeymap: false, interactionDelay: 0, selectOnOpen: false }),
      Prec.highest(
        keymap.of([
          { key: 'Tab', run: takeFirst },
          ...completionKeymap.filter((binding) => binding.key !== 'Enter'),
          // A proposal is taken only by who has gone to it: a search that is written out runs.
          { key: 'Enter', run: (of) => acceptCompletion(of) || (options.onsubmit(), true) },
          { key: 'Mod-Enter', run: () => (options.onsubmit(), true) },
        ]),
      ),
      keymap.of([{ key: 'Escape', run: () => (options.onescape(), true) }, ...defaultKeymap, ...historyKeymap]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) options.onchange(update.state.doc.toString());
      }),
    ],
  });
  return editor(view(host, state));
}

/** Takes the chosen proposal, else the first. */
function takeFirst(of: EditorView): boolean {
  const status = completionStatus(of.state);
  // Proposals are on their way: the focus stays.
  if (status !== 'active') return status === 'pending';
  if (selectedCompletionIndex(of.state) === null) of.dispatch({ effects: setSelectedCompletion(0) });
  return acceptCompletion(of);
}

export interface SqlOptions {
  text: string;
  label: string;
  schema: SQLNamespace;
  onchange: (text: string) => void;
  onsubmit: () => void;
}

const sqlColours = HighlightStyle.define([
  { tag: tags.keyword, color: 'var(--critical)', fontWeight: '550' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--good)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--warn)' },
  { tag: tags.comment, color: 'var(--text-3)', fontStyle: 'italic' },
  { tag: [tags.operator, tags.punctuation, tags.paren], color: 'var(--text-2)' },
  { tag: [tags.typeName, tags.standard(tags.name)], color: 'var(--accent)' },
]);

/** Several lines of SQL, with the columns of the tables to complete. */
export function sqlEditor(host: HTMLElement, options: SqlOptions): Editor & { setSchema: (schema: SQLNamespace) => void } {
  const language = new Compartment();
  const support = (schema: SQLNamespace) => sql({ dialect: StandardSQL, schema, upperCaseKeywords: true });
  const state = EditorState.create({
    doc: options.text,
    extensions: [
      // What stands first wins.
      EditorView.theme({ '.cm-content': { padding: '12px 16px' }, '.cm-scroller': { overflow: 'auto', lineHeight: '1.65' } }),
      look,
      history(),
      closeBrackets(),
      language.of(support(options.schema)),
      syntaxHighlighting(sqlColours),
      fault,
      autocompletion({ icons: false }),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': options.label, tabindex: '0', spellcheck: 'false' }),
      Prec.highest(keymap.of([{ key: 'Mod-Enter', run: () => (options.onsubmit(), true) }, { key: 'Tab', run: acceptCompletion }])),
      keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) options.onchange(update.state.doc.toString());
      }),
    ],
  });
  const shown = view(host, state);
  return { ...editor(shown), setSchema: (schema) => shown.dispatch({ effects: language.reconfigure(support(schema)) }) };
}
