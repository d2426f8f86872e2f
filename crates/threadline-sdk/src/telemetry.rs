//! One line that sets everything up, and the guard that sends what waits when the program ends, panics or is told to stop.

use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::Error;
use crate::events::{CONTRACT_VERSION, ServiceStarted, ServiceStartedOptional, ServiceStopping};
use crate::events::{ServiceStoppingOptional, ServiceStoppingReason};
use crate::export::{Pipeline, SHUTDOWN, TARGET as EXPORT_TARGET};
use crate::propagation::Propagator;
use crate::settings::{Settings, Stdout};

/// Target of the contract's events and of the request layers' spans: recorded whatever the filter says.
pub(crate) const TARGET: &str = "threadline";

/// How long a panic that ends the process waits for the host.
const PANIC_FLUSH: Duration = Duration::from_secs(2);

/// Sets up logs and traces for the program, from `threadline.toml` and the `OTEL_*` variables, with name and version of the calling
/// crate where these say none. Keep what it returns until the end of `main`.
///
/// ```no_run
/// fn main() -> Result<(), threadline_sdk::Error> {
///     let _telemetry = threadline_sdk::init!()?;
///     tracing::info!("hello");
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! init {
    () => {
        $crate::Settings::read().and_then(|settings| {
            $crate::init(settings.or_service(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))
        })
    };
}

/// Keeps telemetry running. Dropping it sends what waits, five seconds at most; what the host does not take stays on disk for the
/// next start.
#[derive(Debug)]
#[must_use = "dropping it ends telemetry: bind it to a name in main"]
pub struct Telemetry {
    running: Arc<Running>,
    /// Not for a scoped one, which others may stop.
    global: bool,
}

#[derive(Debug)]
struct Running {
    pipeline: Arc<Pipeline>,
    tracers: SdkTracerProvider,
    started: Instant,
    stopping: AtomicBool,
    /// Somebody waits for the signal and ends the program.
    graceful: AtomicBool,
}

/// Sets up logs and traces for the program: [`init!`](crate::init!) with settings of one's own.
///
/// # Errors
/// What is wrong with the settings, or that there is a subscriber already.
pub fn init(settings: Settings) -> Result<Telemetry, Error> {
    let (dispatch, mut telemetry) = Telemetry::scoped(&settings)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| Error::Taken)?;
    telemetry.global = true;
    global::set_text_map_propagator(Propagator);
    global::set_tracer_provider(telemetry.running.tracers.clone());
    hook_panics(Arc::clone(&telemetry.running));
    if settings.signals.flush {
        wait_for_signals(Arc::clone(&telemetry.running))?;
    }
    ServiceStarted {
        optional: ServiceStartedOptional {
            contract_version: Some(CONTRACT_VERSION.into()),
            process_pid: Some(i64::from(std::process::id())),
            ..ServiceStartedOptional::default()
        },
    }
    .emit(&format!("{} {} has started", settings.service.name, settings.service.version));
    Ok(telemetry)
}

impl Telemetry {
    /// The same without touching anything global: a subscriber to be used where one likes, for tests and for several services in one
    /// process.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn scoped(settings: &Settings) -> Result<(Dispatch, Telemetry), Error> {
        settings.check()?;
        let resource = resource(settings)?;
        let pipeline = Pipeline::start(settings, &resource)?;
        let mut loggers = SdkLoggerProvider::builder().with_resource(resource.clone());
        if settings.logs_url().is_some() {
            loggers = loggers.with_log_processor(pipeline.logs());
        }
        let mut tracers = SdkTracerProvider::builder().with_resource(resource);
        if std::env::var_os("OTEL_TRACES_SAMPLER").is_none() {
            let root = match settings.traces.ratio {
                1.0 => Sampler::AlwaysOn,
                ratio => Sampler::TraceIdRatioBased(ratio),
            };
            tracers = tracers.with_sampler(Sampler::ParentBased(Box::new(root)));
        }
        if settings.traces_url().is_some() {
            tracers = tracers.with_span_processor(pipeline.spans());
        }
        let tracers = tracers.build();
        let dispatch = subscriber(settings, &loggers.build(), &tracers)?;
        let running = Arc::new(Running {
            pipeline,
            tracers,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            graceful: AtomicBool::new(false),
        });
        Ok((dispatch, Telemetry { running, global: false }))
    }

    /// Sends what waits. False when the host is away, or the time is over: what waits stays.
    pub fn flush(&self, time: Duration) -> bool {
        self.running.pipeline.flush(time)
    }

    /// Ends at SIGTERM or SIGINT, for a server's graceful end. Whoever asks for it ends the program: the signal itself no longer does.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let running = Arc::clone(&self.running);
        running.graceful.store(true, Ordering::Relaxed);
        async move {
            while !running.stopping.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if self.global {
            self.running.say_stopping(ServiceStoppingReason::Request);
        }
        self.running.pipeline.stop(SHUTDOWN);
    }
}

impl Running {
    /// Says once that the service stops.
    fn say_stopping(&self, reason: ServiceStoppingReason) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        ServiceStopping {
            optional: ServiceStoppingOptional {
                reason: Some(reason),
                duration_s: Some(self.started.elapsed().as_secs_f64()),
            },
        }
        .emit("the service stops");
    }
}

fn resource(settings: &Settings) -> Result<Resource, Error> {
    let service = &settings.service;
    let instance = match service.instance_id.as_str() {
        "" => random_hex()?,
        given => given.to_owned(),
    };
    let mut attributes = vec![
        KeyValue::new("service.name", service.name.clone()),
        KeyValue::new("service.instance.id", instance),
        KeyValue::new("threadline.contract.version", CONTRACT_VERSION),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("telemetry.distro.name", "threadline-sdk"),
        KeyValue::new("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
    ];
    for (key, value) in [
        ("service.version", &service.version),
        ("service.namespace", &service.namespace),
        ("deployment.environment.name", &service.environment),
    ] {
        if !value.is_empty() {
            attributes.push(KeyValue::new(key, value.clone()));
        }
    }
    attributes.extend(settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    Ok(Resource::builder().with_attributes(attributes).build())
}

/// 128 random bits.
pub(crate) fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::System(format!("no random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn subscriber(
    settings: &Settings,
    loggers: &SdkLoggerProvider,
    tracers: &SdkTracerProvider,
) -> Result<Dispatch, Error> {
    let filter = || {
        EnvFilter::try_new(&settings.logs.filter).map_err(|error| {
            let text =
                format!("the log filter {:?}: {error}; as in `info,my_crate=debug`", settings.logs.filter);
            Error::Settings(text)
        })
    };
    let ours = || filter_fn(|metadata| metadata.target() == TARGET);
    // What OpenTelemetry and we say of ourselves would be about the export of what we say of ourselves, whichever thread says it.
    let of_itself = |target: &str| target.starts_with("opentelemetry") || target == EXPORT_TARGET;
    let machinery = || filter_fn(move |metadata| !of_itself(metadata.target()));
    let logs = OpenTelemetryTracingBridge::new(loggers).with_filter(filter()?.or(ours()).and(machinery()));
    // Logs are records of their own: as events of spans they would be stored twice.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracers.tracer("threadline"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter()?.or(ours()).and(filter_fn(|metadata| metadata.is_span())));
    let printed = printed(settings.logs.stdout).map(|layer| Ok::<_, Error>(layer.with_filter(filter()?)));
    Ok(Dispatch::new(Registry::default().with(spans).with(logs).with(printed.transpose()?)))
}

fn printed<S>(stdout: Stdout) -> Option<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match stdout {
        Stdout::None => None,
        Stdout::Text => Some(fmt::layer().boxed()),
        Stdout::Json => Some(fmt::layer().json().flatten_event(true).boxed()),
    }
}

/// Makes a record of each panic, before what was done about panics before.
fn hook_panics(running: Arc<Running>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        record_panic(info);
        if cfg!(panic = "abort") {
            running.pipeline.flush(PANIC_FLUSH);
        } else {
            // The stack unwinds: the guard sends the rest if this is the end, and nobody waits if it is not.
            running.pipeline.flush(Duration::ZERO);
        }
        before(info);
    }));
}

fn record_panic(info: &PanicHookInfo<'_>) {
    thread_local!(static INSIDE: AtomicBool = const { AtomicBool::new(false) });
    // A panic of whoever records a panic is not recorded.
    if INSIDE.with(|inside| inside.swap(true, Ordering::Relaxed)) {
        return;
    }
    let message = info.payload_as_str().unwrap_or("a panic with a payload that is no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let stack = std::backtrace::Backtrace::force_capture().to_string();
    tracing::event!(
        name: "exception",
        target: TARGET,
        tracing::Level::ERROR,
        message = format!("panic at {place}: {message}"),
        "exception.type" = "panic",
        "exception.message" = message,
        "exception.stacktrace" = stack,
    );
    INSIDE.with(|inside| inside.store(false, Ordering::Relaxed));
}

/// Sends what waits when the program is told to stop, then lets happen what would have happened without us.
fn wait_for_signals(running: Arc<Running>) -> Result<(), Error> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let wrong = |error: std::io::Error| Error::System(format!("signals cannot be waited for: {error}"));
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(wrong)?;
    let wait = move || {
        for signal in signals.forever() {
            running.say_stopping(ServiceStoppingReason::Signal);
            running.pipeline.flush(SHUTDOWN);
            if !running.graceful.load(Ordering::Relaxed) {
                running.pipeline.stop(Duration::ZERO);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    };
    std::thread::Builder::new().name("threadline-signal".to_owned()).spawn(wait).map_err(wrong)?;
    Ok(())
}
