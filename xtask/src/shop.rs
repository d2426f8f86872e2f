//! A small shop's two hours, generated: logs and spans of nine services as NDJSON, the same bytes every time.
//!
//! It stands in for real data in the demo and in the comparison, so it has what people look for: expired tokens
//! (401), forbidden pages (403), scans for pages that do not exist (404), a payment provider that becomes slow and
//! then times out (503), retries, and a service that logs but sends no spans.
//!
//! Shapes: a log is `{time_unix_nano, service, pod, node, severity, trace_id, span_id, body}`, a span is
//! `{trace_id, span_id, parent_span_id, service, pod, name, kind, status, start_time_unix_nano, end_time_unix_nano}`;
//! 64-bit numbers are decimal strings.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Result;

/// The first request arrives then: 2026-01-15 08:00 UTC, in µs since the Unix epoch.
const START_US: u64 = 1_768_464_000_000_000;
/// Requests arrive during this long.
const SPAN_US: u64 = 2 * 3600 * 1_000_000;
/// Number of requests.
const REQUESTS: u64 = 6000;
/// The payment provider is slow in this part of the time, in thousandths of it.
const SLOW: std::ops::Range<u64> = 600..720;

/// What a service does for its caller.
struct Call {
    service: &'static str,
    name: &'static str,
    /// Own work, µs.
    own_us: u64,
    /// What it logs when done; `{n}` becomes a number.
    says: &'static str,
    calls: &'static [Call],
}

const VERIFY: Call =
    Call { service: "auth", name: "Tokens/Verify", own_us: 900, says: "token accepted user=u-{n}", calls: &[] };
const STOCK: Call = Call {
    service: "inventory",
    name: "Stock/Read",
    own_us: 2500,
    says: "SELECT sku, amount FROM stock WHERE sku = 'SKU-{n}' rows=1",
    calls: &[],
};
const CART: Call =
    Call { service: "cart", name: "Cart/Read", own_us: 1200, says: "cart of u-{n} read", calls: &[] };

const BROWSE: Call = Call {
    service: "gateway",
    name: "GET /api/products",
    own_us: 1500,
    says: "GET /api/products status=200",
    calls: &[Call {
        service: "catalogue",
        name: "Products/List",
        own_us: 4000,
        says: "listed {n} products",
        calls: &[STOCK],
    }],
};
const ADD: Call = Call {
    service: "gateway",
    name: "POST /api/cart",
    own_us: 1500,
    says: "POST /api/cart status=201",
    calls: &[
        VERIFY,
        Call {
            service: "cart",
            name: "Cart/Add",
            own_us: 1800,
            says: "added SKU-{n} to cart",
            calls: &[STOCK],
        },
    ],
};
const CHECKOUT: Call = Call {
    service: "gateway",
    name: "POST /api/checkout",
    own_us: 1800,
    says: "POST /api/checkout status=200",
    calls: &[
        VERIFY,
        Call {
            service: "checkout",
            name: "Orders/Place",
            own_us: 6000,
            says: "order placed orderId=ord-{n}",
            calls: &[
                CART,
                Call {
                    service: "inventory",
                    name: "Stock/Reserve",
                    own_us: 3500,
                    says: "reserved SKU-{n}",
                    calls: &[],
                },
                PAYMENT,
                Call {
                    service: "shipping",
                    name: "Parcels/Quote",
                    own_us: 5000,
                    says: "quote for parcel {n}: 4.90 EUR",
                    calls: &[],
                },
                // Logs, but sends no spans: a gap for the trace view to name.
                Call {
                    service: "email",
                    name: "",
                    own_us: 700,
                    says: "queued confirmation mail-{n}",
                    calls: &[],
                },
            ],
        },
    ],
};
const PAYMENT: Call = Call {
    service: "payment",
    name: "Cards/Charge",
    own_us: 2000,
    says: "charged card paymentId=pay-{n}",
    calls: &[Call {
        service: "payment-provider",
        name: "POST https://provider.example/charges",
        own_us: 45_000,
        says: "",
        calls: &[],
    }],
};

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// 401: the token has expired.
    Expired,
    /// 403: an ordinary user on an admin page.
    Forbidden,
    /// 404: nobody serves this path.
    Unknown,
}

/// Writes `logs.ndjson` and `spans.ndjson` into a folder and returns their paths.
pub(crate) fn write(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let mut shop = Shop { random: Random(0x5eed), logs: Vec::new(), spans: Vec::new(), failed: false };
    for number in 0..REQUESTS {
        shop.request(number);
    }
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let logs = lines(&folder.join("logs.ndjson"), shop.logs)?;
    let spans = lines(&folder.join("spans.ndjson"), shop.spans)?;
    Ok((logs, spans))
}

fn lines(path: &Path, mut rows: Vec<(u64, Value)>) -> Result<PathBuf> {
    rows.sort_by_key(|(time, _)| *time);
    let written = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (_, row) in &rows {
            writeln!(file, "{row}")?;
        }
        file.flush()
    };
    written().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.to_owned())
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Between half and one and a half of a duration.
    fn around(&mut self, us: u64) -> u64 {
        us / 2 + self.below(us.max(1))
    }
}

/// Where a call belongs.
struct Place<'a> {
    trace: &'a str,
    parent: &'a str,
    /// The provider is slow now.
    slow: bool,
}

struct Shop {
    random: Random,
    /// Time in µs and the record.
    logs: Vec<(u64, Value)>,
    spans: Vec<(u64, Value)>,
    /// Whether the request at hand has failed.
    failed: bool,
}

impl Shop {
    fn request(&mut self, number: u64) {
        let at = START_US + number * (SPAN_US / REQUESTS) + self.random.below(900_000);
        let slow = SLOW.contains(&((at - START_US) * 1000 / SPAN_US));
        let trace = format!("{:016x}{:016x}", self.random.next(), self.random.next());
        let place = Place { trace: &trace, parent: "", slow };
        self.failed = false;
        let fate = match self.random.below(100) {
            0..=2 => Fate::Expired,
            3 => Fate::Forbidden,
            4..=6 => Fate::Unknown,
            _ => Fate::Good,
        };
        let root = match self.random.below(10) {
            0..=4 => &BROWSE,
            5..=7 => &ADD,
            _ => &CHECKOUT,
        };
        if fate == Fate::Good {
            self.call(root, &place, at);
        } else {
            self.refused(fate, &place, at);
        }
    }

    /// Makes a call with everything below it, beginning at `start`; returns when it ends.
    fn call(&mut self, call: &Call, place: &Place, start: u64) -> u64 {
        let own = self.random.around(call.own_us);
        let id = format!("{:016x}", self.random.next());
        let mut now = start + own / 2;
        if call.service == "payment-provider" {
            now = self.charge(place, now);
        }
        for below in call.calls {
            now = self.call(below, &Place { parent: &id, ..*place }, now + 40);
            if self.failed {
                break;
            }
        }
        let end = now + own / 2;
        // The provider is someone else's: its caller has the client span, under its own name.
        let service = if call.service == "payment-provider" { "payment" } else { call.service };
        if !call.name.is_empty() {
            let kind = if call.service == "payment-provider" { "client" } else { "server" };
            let status = if self.failed { "error" } else { "unset" };
            self.span(place, &id, (service, call.name, kind, status), (start, end));
        }
        if self.failed {
            let body = format!(
                "{} failed after {} ms: payment provider timeout status=503",
                call.name,
                (end - start) / 1000
            );
            self.log(place, &id, service, "ERROR", body, end - 1);
        } else if !call.says.is_empty() {
            let body = call.says.replace("{n}", &self.random.below(5000).to_string());
            let severity = if end - start > 1_000_000 { "WARN" } else { "INFO" };
            let slow = if severity == "WARN" {
                format!(" (slow: {} ms)", (end - start) / 1000)
            } else {
                String::new()
            };
            self.log(place, &id, service, severity, body + &slow, end - 1);
        }
        end
    }

    /// The provider's part: slow in its bad time, when every third charge times out after a retry.
    fn charge(&mut self, place: &Place, now: u64) -> u64 {
        if !place.slow {
            return now;
        }
        if self.random.below(3) > 0 {
            return now + self.random.around(1_600_000);
        }
        let body = "provider.example did not answer within 2000 ms, attempt 1 of 2".to_owned();
        self.log(place, place.parent, "payment", "WARN", body, now + 2_000_000);
        self.failed = true;
        now + 4_000_000
    }

    /// A request that ends at the door.
    fn refused(&mut self, fate: Fate, place: &Place, start: u64) {
        let id = format!("{:016x}", self.random.next());
        let user = self.random.below(5000);
        let client = format!("203.0.113.{}", self.random.below(40));
        let scanned = ["/wp-login.php", "/.env", "/admin/config.php", "/api/v0/orders"];
        let (name, status, reason) = match fate {
            Fate::Unknown => {
                let path = scanned[self.random.below(scanned.len() as u64) as usize];
                (format!("GET {path}"), 404, "no route".to_owned())
            }
            Fate::Forbidden => {
                ("GET /api/admin/orders".to_owned(), 403, format!("user u-{user} lacks role admin"))
            }
            _ => ("POST /api/cart".to_owned(), 401, format!("token expired user=u-{user}")),
        };
        let mut end = start + self.random.around(1500);
        if fate != Fate::Unknown {
            let inner = format!("{:016x}", self.random.next());
            let below = Place { parent: &id, ..*place };
            self.span(&below, &inner, ("auth", "Tokens/Verify", "server", "unset"), (start + 300, end));
            self.log(&below, &inner, "auth", "WARN", format!("refused: {reason} client={client}"), end - 1);
            end += 400;
        }
        self.span(place, &id, ("gateway", &name, "server", "unset"), (start, end));
        self.log(
            place,
            &id,
            "gateway",
            "WARN",
            format!("{name} status={status} {reason} client={client}"),
            end - 1,
        );
    }

    /// A span: service, name, kind and status; start and end.
    fn span(&mut self, place: &Place, id: &str, what: (&str, &str, &str, &str), when: (u64, u64)) {
        let ((service, name, kind, status), (start, end)) = (what, when);
        let row = json!({
            "trace_id": place.trace,
            "span_id": id,
            "parent_span_id": place.parent,
            "service": service,
            "pod": pod(service, place.trace),
            "name": name,
            "kind": kind,
            "status": status,
            "start_time_unix_nano": nanos(start),
            "end_time_unix_nano": nanos(end),
        });
        self.spans.push((start, row));
    }

    fn log(&mut self, place: &Place, span: &str, service: &str, severity: &str, body: String, at: u64) {
        let row = json!({
            "time_unix_nano": nanos(at),
            "service": service,
            "pod": pod(service, place.trace),
            "node": format!("10.0.0.{}", 10 + service.len()),
            "severity": severity,
            "trace_id": place.trace,
            "span_id": span,
            "body": body,
        });
        self.logs.push((at, row));
    }
}

/// One of a service's two pods; a trace stays on one.
fn pod(service: &str, trace: &str) -> String {
    let second = trace.bytes().map(u32::from).sum::<u32>() % 2;
    format!("{service}-7c9d6b5f4-{}", ["x2kqv", "m8tzr"][second as usize])
}

fn nanos(us: u64) -> String {
    (us * 1000).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shop_is_the_same_every_time_and_has_what_people_look_for() {
        let folder = std::env::temp_dir().join(format!("threadline-shop-{}", std::process::id()));
        let (logs, spans) = super::write(&folder).unwrap();
        let (logs, spans) = (std::fs::read_to_string(logs).unwrap(), std::fs::read_to_string(spans).unwrap());
        super::write(&folder).unwrap();
        assert!(logs == std::fs::read_to_string(folder.join("logs.ndjson")).unwrap());
        assert!(spans == std::fs::read_to_string(folder.join("spans.ndjson")).unwrap());
        for needle in
            ["status=401", "status=403", "status=404", "status=503", "(slow: ", "\"service\":\"email\""]
        {
            assert!(logs.contains(needle), "{needle}");
        }
        assert!(!spans.contains("\"service\":\"email\""));
        let distinct: std::collections::HashSet<&str> = logs.lines().collect();
        assert_eq!(distinct.len(), logs.lines().count());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
