//! The load generator: normal days and bursts. It keeps of each request what the hub must hold afterwards.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use threadline_sdk::tls::Files;
use tokio::sync::Semaphore;

use crate::mesh::Mesh;
use crate::{Result, jwt, services};

/// Requests that may be under way at once; what is beyond waits, and the load is less than was wanted.
const AT_ONCE_MAX: usize = 64;

/// Requests that are remembered until the end: half a day of them.
const JOURNEYS_MAX: usize = 1_000_000;

/// One request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    pub(crate) trace: String,
    pub(crate) status: u16,
    /// Services that it must have crossed, the edge first.
    pub(crate) crossed: Vec<&'static str>,
}

/// What was sent so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    journeys: Mutex<Vec<Journey>>,
    /// Requests that got no answer.
    pub(crate) lost: AtomicU64,
    /// Requests that there was no room for.
    pub(crate) uncounted: AtomicU64,
    /// Requests a second, at the moment.
    pub(crate) rate: AtomicU64,
    stop: AtomicBool,
}

impl Journal {
    pub(crate) fn add(&self, journey: Journey) {
        let mut journeys = self.journeys.lock().unwrap_or_else(PoisonError::into_inner);
        if journeys.len() < JOURNEYS_MAX {
            journeys.push(journey);
        } else {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn journeys(&self) -> Vec<Journey> {
        self.journeys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.journeys.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// No more is sent.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Which services the fleet has beside the Rust ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Others {
    pub(crate) recommend: bool,
    pub(crate) notify: bool,
}

/// Addresses that customers come from. Coprime with the kinds of request, so that each sends all of them.
const CUSTOMERS: u8 = 21;

/// A client for each customer, from an address of its own.
pub(crate) fn customers(files: &Files) -> Result<Vec<Mesh>> {
    (1..=CUSTOMERS).map(|last| Mesh::from_address(files, Ipv4Addr::new(127, 0, 2, last))).collect()
}

/// A kind of request.
#[derive(Clone, Copy)]
enum Kind {
    Item,
    Order,
    Read,
    Missing,
}

impl Kind {
    fn of(number: u64) -> Kind {
        match number % 10 {
            0..=4 => Kind::Item,
            5..=7 => Kind::Order,
            8 => Kind::Read,
            _ => Kind::Missing,
        }
    }

    fn crossed(self, others: Others) -> Vec<&'static str> {
        let mut crossed = vec!["edge"];
        match self {
            Kind::Item => crossed.push("catalogue"),
            Kind::Order => crossed.extend(["orders", "catalogue", "payment"]),
            Kind::Read | Kind::Missing => crossed.push("orders"),
        }
        if others.recommend && matches!(self, Kind::Item | Kind::Order) {
            crossed.push("recommend");
        }
        if others.notify && matches!(self, Kind::Order) {
            crossed.push("notify");
        }
        crossed
    }
}

/// Sends, for one customer after another, until told to stop: ten seconds of an ordinary day, two of a burst, and again.
pub(crate) async fn run(
    customers: Vec<Mesh>,
    edge: String,
    secret: Vec<u8>,
    others: Others,
    rates: [u64; 2],
    journal: Arc<Journal>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let started = tokio::time::Instant::now();
    let mut number = 0;
    while !journal.stop.load(Ordering::Relaxed) {
        let burst = started.elapsed().as_secs() % 12 >= 10;
        let [day, night] = rates;
        let rate = if burst { night } else { day };
        journal.rate.store(rate, Ordering::Relaxed);
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let now_s = i64::try_from(services::now().as_secs()).unwrap_or(0);
        let at = usize::try_from(number).unwrap_or(0) % customers.len().max(1);
        let Some(mesh) = customers.get(at).cloned() else { return };
        let user = format!("u-{at}");
        let token = jwt::issue(&secret, &user, "orders", now_s, 300);
        let (edge, journal) = (edge.clone(), Arc::clone(&journal));
        tokio::spawn(async move {
            match send(&mesh, &edge, &token, number).await {
                Ok((trace, status)) => {
                    let crossed = Kind::of(number).crossed(others);
                    journal.add(Journey { trace, status, crossed });
                }
                Err(_) => drop(journal.lost.fetch_add(1, Ordering::Relaxed)),
            }
            drop(place);
        });
        number += 1;
        tokio::time::sleep(Duration::from_micros(1_000_000 / rate.max(1))).await;
    }
    // Those under way are part of it.
    let _ = places.acquire_many(AT_ONCE_MAX as u32).await;
}

async fn send(mesh: &Mesh, edge: &str, token: &str, number: u64) -> Result<(String, u16)> {
    let item = number % 1000;
    let request = match Kind::of(number) {
        Kind::Item => Request::get(format!("{edge}/items/{item}")),
        Kind::Order => Request::post(format!("{edge}/orders")).header("content-type", "application/json"),
        Kind::Read => Request::get(format!("{edge}/orders/u-{item}")),
        Kind::Missing => Request::get(format!("{edge}/orders/none")),
    };
    let body = match Kind::of(number) {
        Kind::Order => Body::from(format!("{{\"item\":{item}}}")),
        _ => Body::empty(),
    };
    let request =
        request.header("authorization", format!("Bearer {token}")).header("user-agent", "fleet-load/1");
    let answer = mesh.send(request.body(body).map_err(|error| error.to_string())?).await?;
    let trace = trace(answer.headers()).ok_or("the answer has no traceresponse")?;
    Ok((trace, answer.status().as_u16()))
}

/// The trace id that an answer names.
pub(crate) fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceresponse")?.to_str().ok()?;
    value.get(3..35).map(str::to_owned)
}
