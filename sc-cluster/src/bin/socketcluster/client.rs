//! `socketcluster client`: talk to a server from a terminal or a script. Results are JSON lines on standard output, errors
//! JSON lines on standard error, and the exit code says how it went.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use sc_client::{
    Capacity, Client, Data, Event, Overflow, Pending, Raw, ScError, SubscribeOptions, Subscription, TimedOut, Tls,
    Token,
};
use serde_json::{Map, Value, json};

/// Talk to a SocketCluster server of any version: subscribe, publish, emit, authenticate, watch.
///
/// Results are JSON lines on standard output, errors JSON lines on standard error. Exit codes: 0 done, 1 the server refused,
/// 2 wrong usage, 3 no connection, 4 no answer in time.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// ws://host:port/path, wss://…, or ws+unix:/path/of/socket:/path
    url: String,
    /// Seconds until a connection and an answer have to be there
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,
    /// A file with the auth token to connect with; else SOCKETCLUSTER_TOKEN is taken
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A header of the upgrade request (several are possible)
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Trust the CAs in this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show a certificate of one's own: chain and key, both PEM files
    #[arg(long, num_args = 2, value_names = ["CHAIN", "KEY"], requires = "ca")]
    certificate: Vec<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what is published on channels, as {"channel":…,"data":…}
    Subscribe {
        /// Their names
        #[arg(required = true)]
        channels: Vec<String>,
        /// End after that many messages
        #[arg(long, short = 'n')]
        count: Option<u64>,
        /// JSON for the server's subscribe middleware
        #[arg(long, value_name = "JSON", value_parser = json_text)]
        data: Option<String>,
        /// Subscribe only when authenticated
        #[arg(long)]
        wait_for_auth: bool,
        /// End after that many seconds; with --count not reached by then, as a timeout
        #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
        duration: Option<f64>,
    },
    /// Publish: one JSON value, or each line of standard input
    Publish {
        /// The channel
        channel: String,
        /// JSON; without it, each line of standard input is one
        #[arg(value_parser = json_text)]
        data: Option<String>,
    },
    /// Emit an event and print the data of the answer
    Emit {
        /// Its name
        event: String,
        /// JSON; without it, no data is sent
        #[arg(value_parser = json_text)]
        data: Option<String>,
        /// Want no answer
        #[arg(long)]
        no_ack: bool,
    },
    /// Check that the server takes the auth token
    Authenticate,
    /// Print everything that happens, and do what the lines of standard input say, until it ends:
    /// {"emit":"event","data":…}, {"transmit":…}, {"publish":"channel","data":…}, {"subscribe":…}, {"unsubscribe":…}, {"authenticate":…}
    Watch {
        /// Go on when standard input has ended, for that many seconds
        #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
        duration: Option<f64>,
    },
}

/// Why it ends, other than well.
enum End {
    Refused(ScError),
    Usage(String),
    NoConnection(ScError),
    TimedOut(String),
    /// Nobody reads our output any more.
    Unread,
}

impl End {
    fn report(self) -> ExitCode {
        let (error, code) = match self {
            Self::Refused(error) => (serde_json::from_str(&error.to_json()).unwrap_or_default(), 1),
            Self::Usage(text) => (json!({ "name": "InvalidArgumentsError", "message": text }), 2),
            Self::NoConnection(error) => (serde_json::from_str(&error.to_json()).unwrap_or_default(), 3),
            Self::TimedOut(text) => (json!({ "name": "TimeoutError", "message": text }), 4),
            Self::Unread => return ExitCode::SUCCESS,
        };
        let _ = writeln!(io::stderr(), "{}", json!({ "error": error }));
        ExitCode::from(code)
    }
}

impl From<ScError> for End {
    fn from(error: ScError) -> Self {
        match error.name() {
            Some("TimeoutError") => Self::TimedOut(error.message().to_owned()),
            Some("BadConnectionError" | "SocketProtocolError") => Self::NoConnection(error),
            _ => Self::Refused(error),
        }
    }
}

pub(crate) fn run(args: ClientArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => end.report(),
    }
}

fn start(args: ClientArgs) -> Result<(), End> {
    let timeout = Duration::from_secs_f64(args.timeout);
    let usage = |error: &dyn std::fmt::Display| End::Usage(error.to_string());
    let mut builder = Client::builder(&args.url).ack_timeout(timeout);
    for header in &args.header {
        let (name, value) = header.split_once(':').ok_or_else(|| usage(&"a header is a name, a colon and a value"))?;
        builder = builder.header(name.trim(), value.trim());
    }
    if let Some(ca) = &args.ca {
        let mut tls = Tls::builder().ca_file(ca).map_err(|error| usage(&error))?;
        if let [chain, key] = &args.certificate[..] {
            tls = tls.client_certificate(chain, key).map_err(|error| usage(&error))?;
        }
        builder = builder.tls(&tls.build().map_err(|error| usage(&error))?);
    }
    let token = match &args.token_file {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| usage(&format!("{}: {error}", path.display())))?)
        }
        None => std::env::var("SOCKETCLUSTER_TOKEN").ok(),
    };
    let token = token.map(|token| Token::from(token.trim()));
    // `authenticate` sends it apart, so that its answer is seen.
    if let Some(token) = token.clone().filter(|_| !matches!(args.action, Action::Authenticate)) {
        builder = builder.token(token);
    }
    let client = builder.connect().map_err(|error| usage(&error))?;
    let events = client.events();
    connect(&client, timeout)?;
    match args.action {
        Action::Subscribe { channels, count, data, wait_for_auth, duration } => {
            let options = SubscribeOptions { wait_for_auth, data, ..SubscribeOptions::default() };
            subscribe(&client, &channels, &options, count, duration.map(Duration::from_secs_f64))?;
        }
        Action::Publish { channel, data: Some(data) } => {
            answer(client.publish(&channel, Data::from_json(&data)), timeout)?;
        }
        Action::Publish { channel, data: None } => publish_lines(&client, &channel, timeout)?,
        Action::Emit { event, data, no_ack } => {
            let data = data.as_deref().map_or_else(Data::absent, Data::from_json);
            if no_ack {
                client.transmit(&event, data)?;
            } else {
                let data = answer(client.emit::<_, Data>(&event, data), timeout)?;
                print(data.json().unwrap_or("null"))?;
            }
        }
        Action::Authenticate => {
            let none = || usage(&"a token has to be in --token-file or SOCKETCLUSTER_TOKEN");
            let token = token.ok_or_else(none)?;
            let claims = token.claims();
            answer(client.authenticate(token), timeout)?;
            let claims = claims.and_then(|claims| claims.parse::<Value>().ok());
            print(&json!({ "isAuthenticated": true, "authToken": claims }).to_string())?;
        }
        Action::Watch { duration } => watch(&client, events, duration.map(Duration::from_secs_f64))?,
    }
    // What was to be sent is sent.
    answer(client.close(), timeout)
}

fn connect(client: &Client, timeout: Duration) -> Result<(), End> {
    let mut events = client.events();
    let deadline = Instant::now() + timeout;
    let connected = client.connected();
    match connected.wait_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(result) => result.map_err(End::NoConnection),
        Err(TimedOut) => {
            // What the last attempt met says more than the time that has passed.
            let failures = std::iter::from_fn(|| events.try_next()).filter_map(|event| match event {
                Ok(Event::Disconnected(end)) => end.to_error(),
                _ => None,
            });
            let late = || ScError::new("TimeoutError", "No connection in time");
            Err(End::NoConnection(failures.last().unwrap_or_else(late)))
        }
    }
}

fn answer<T>(pending: Pending<T>, timeout: Duration) -> Result<T, End> {
    match pending.wait_timeout(timeout + Duration::from_secs(1)) {
        Ok(result) => Ok(result?),
        Err(TimedOut) => Err(End::TimedOut("No answer in time".to_owned())),
    }
}

fn print(line: &str) -> Result<(), End> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| End::Unread)
}

/// A line of what a channel brings.
type Line = Result<Value, End>;

fn follow(subscription: Subscription<Value>, lines: mpsc::SyncSender<Line>) {
    thread::spawn(move || {
        let channel = subscription.channel().to_owned();
        for message in subscription {
            let line = match message {
                Ok(data) => Ok(json!({ "channel": channel, "data": data })),
                Err(error) if error.name() == Some("LaggedError") => {
                    Ok(json!({ "channel": channel, "missed": error.get("missed") }))
                }
                Err(error) => Err(End::Refused(error)),
            };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

fn subscribe(
    client: &Client,
    channels: &[String],
    options: &SubscribeOptions,
    count: Option<u64>,
    duration: Option<Duration>,
) -> Result<(), End> {
    let (sender, lines) = mpsc::sync_channel(1024);
    for channel in channels {
        let capacity = Capacity { limit: 65_536, overflow: Overflow::DropNewest };
        follow(client.subscribe_with(channel, options.clone(), capacity), sender.clone());
    }
    drop(sender);
    let deadline = duration.map(|duration| Instant::now() + duration);
    let mut left = count;
    while left != Some(0) {
        let line = match deadline {
            None => lines.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(deadline) => lines.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match line {
            Ok(line) => print(&line?.to_string())?,
            Err(mpsc::RecvTimeoutError::Timeout) if left.is_some() => {
                return Err(End::TimedOut("Not as many messages as wanted came in time".to_owned()));
            }
            Err(_) => return Ok(()),
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn publish_lines(client: &Client, channel: &str, timeout: Duration) -> Result<(), End> {
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| End::Usage(error.to_string()))?;
        if !line.trim().is_empty() {
            let data = json_text(&line).map_err(End::Usage)?;
            answer(client.publish(channel, Data::from_json(&data)), timeout)?;
        }
    }
    Ok(())
}

/// Prints what happens until standard input has ended and, if one is given, the time has passed.
fn watch(client: &Client, events: sc_client::Events, duration: Option<Duration>) -> Result<(), End> {
    let (sender, lines) = mpsc::sync_channel::<Option<Line>>(1024);
    let (happened, emitted) = (sender.clone(), sender.clone());
    thread::spawn(move || {
        for event in events.flatten() {
            if happened.send(Some(Ok(shown(event)))).is_err() {
                return;
            }
        }
    });
    let listener = client.listen_with::<Value>(None, Capacity::default());
    thread::spawn(move || {
        for event in listener.flatten() {
            let line = json!({ "event": &*event.name, "data": event.data });
            if emitted.send(Some(Ok(line))).is_err() {
                return;
            }
        }
    });
    let commanded = client.clone();
    thread::spawn(move || {
        let mut subscriptions = Vec::new();
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let result = command(&commanded, &line, &sender, &mut subscriptions);
            if let Err(error) = result
                && sender.send(Some(Ok(json!({ "error": error })))).is_err()
            {
                return;
            }
        }
        let _ = sender.send(None);
    });
    let mut deadline = None;
    loop {
        let line = match deadline {
            None => lines.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(deadline) => lines.recv_timeout(Instant::saturating_duration_since(&deadline, Instant::now())),
        };
        match line {
            Ok(Some(line)) => print(&line?.to_string())?,
            Ok(None) => deadline = Some(Instant::now() + duration.unwrap_or_default()),
            Err(_) => return Ok(()),
        }
    }
}

fn shown(event: Event) -> Value {
    let error = |error: &ScError| serde_json::from_str::<Value>(&error.to_json()).unwrap_or_default();
    match event {
        Event::Connecting => json!({ "connecting": true }),
        Event::Connected(connected) => json!({
            "connected": &*connected.id,
            "isAuthenticated": connected.authenticated,
            "authError": connected.auth_error.as_ref().map(error),
        }),
        Event::Disconnected(end) => json!({
            "disconnected": end.code.0,
            "reason": &*end.reason,
            "status": end.status,
            "retryInMs": end.retry_in.map(|delay| delay.as_millis() as u64),
        }),
        Event::AuthState(token) => {
            let claims = token.as_ref().and_then(Token::claims).and_then(|claims| claims.parse::<Value>().ok());
            json!({ "authState": if token.is_some() { "authenticated" } else { "unauthenticated" }, "authToken": claims })
        }
        Event::Channel { channel, change } => {
            use sc_client::ChannelChange as Change;
            let (state, why) = match &change {
                Change::Subscribed => ("subscribed", None),
                Change::Failed(failed) => ("failed", Some(error(failed))),
                Change::Pending => ("pending", None),
                Change::Unsubscribed => ("unsubscribed", None),
                Change::Kicked(message) => ("kicked", message.parse().ok()),
                _ => ("changed", None),
            };
            json!({ "channel": &*channel, "state": state, "why": why })
        }
        Event::Raw(Raw::Text(text)) => json!({ "raw": &*text }),
        Event::Raw(Raw::Binary(bytes)) => json!({ "rawBytes": bytes.len() }),
        _ => json!({}),
    }
}

/// Does what a line says. Answers come as lines of their own: {"answer":event,"data":…} or {"answer":event,"error":…}.
fn command(
    client: &Client,
    line: &str,
    lines: &mpsc::SyncSender<Option<Line>>,
    subscriptions: &mut Vec<String>,
) -> Result<(), Value> {
    let command: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| json!({ "message": format!("not a command: {error}") }))?;
    let text = |key: &str| command.get(key).and_then(Value::as_str);
    let data = command.get("data").map_or_else(Data::absent, |data| Data::from_json(&data.to_string()));
    let failed = |error: ScError| serde_json::from_str::<Value>(&error.to_json()).unwrap_or_default();
    let later = |name: &str, pending: Pending<Data>| {
        let (name, lines, id) = (name.to_owned(), lines.clone(), command.get("id").cloned());
        thread::spawn(move || {
            let mut line = match pending.wait() {
                Ok(data) => json!({ "answer": name, "data": data.parse::<Value>().ok() }),
                Err(error) => json!({ "answer": name, "error": failed(error) }),
            };
            if let (Some(id), Some(line)) = (id, line.as_object_mut()) {
                line.insert("id".to_owned(), id);
            }
            let _ = lines.send(Some(Ok(line)));
        });
    };
    if let Some(event) = text("emit") {
        later(event, client.emit(event, data));
    } else if let Some(event) = text("transmit") {
        client.transmit(event, data).map_err(failed)?;
    } else if let Some(channel) = text("publish") {
        client.publish(channel, data).wait().map_err(failed)?;
    } else if let Some(channel) = text("subscribe") {
        if !subscriptions.iter().any(|name| name == channel) {
            subscriptions.push(channel.to_owned());
            let (sender, messages) = mpsc::sync_channel(1024);
            follow(client.subscribe(channel), sender);
            let lines = lines.clone();
            thread::spawn(move || {
                // Why it ends is among the news of the channel.
                for line in messages.into_iter().flatten() {
                    if lines.send(Some(Ok(line))).is_err() {
                        return;
                    }
                }
            });
        }
    } else if let Some(channel) = text("unsubscribe") {
        subscriptions.retain(|name| name != channel);
        client.unsubscribe(channel);
    } else if let Some(token) = text("authenticate") {
        client.authenticate(token).wait().map_err(failed)?;
    } else {
        return Err(
            json!({ "message": "a command is one of emit, transmit, publish, subscribe, unsubscribe, authenticate" }),
        );
    }
    Ok(())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e9).contains(&seconds) { Ok(seconds) } else { Err("from 0 to a billion".to_owned()) }
}

fn json_text(text: &str) -> Result<String, String> {
    let raw =
        serde_json::from_str::<&serde_json::value::RawValue>(text).map_err(|error| format!("not JSON: {error}"))?;
    Ok(raw.get().to_owned())
}
