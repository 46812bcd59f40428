//! Our `sc-codec-min-bin` and the npm package of that name write the same bytes and read the same packets from them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use libtest_mimic::{Arguments, Failed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sc_protocol::codec::{Codec, MinBin};
use serde_json::{Value, json};
use support::server::{Server, run_to_end};
use support::{packages, trial};

fn main() -> ExitCode {
    const PROGRAMS: &[&str] = &["node", "npm"];
    let arguments = Arguments::from_args();
    // Before the tests, which run at the same time.
    let wanted = !arguments.list && support::can_run(PROGRAMS);
    if let Some(Err(error)) = wanted.then(|| packages::npm("min-bin")) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let trials = vec![
        trial("same_bytes_and_same_packets_as_npm", PROGRAMS, against_npm),
        trial("client_14_3_2", PROGRAMS, || client("14", 1)),
        trial("client_20_0_2", PROGRAMS, || client("20", 2)),
        trial("a_version_has_to_be_named", &[], needs_a_version),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A real client and a real cluster that speak this codec.
fn client(client: &str, protocol_version: u32) -> Result<(), Failed> {
    const PING_TIMEOUT_MS: u32 = 800;
    let options = json!({ "protocolVersion": protocol_version, "pingInterval": 200, "pingTimeout": PING_TIMEOUT_MS });
    let server = Server::start_example("min_bin", &[("SOCKETCLUSTER_OPTIONS", &options.to_string())])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec/story.js");
    let (port, hold) = (server.port.to_string(), (3 * PING_TIMEOUT_MS + 200).to_string());
    let mut node = Command::new("node");
    run_to_end(node.arg(script).args([client, &port, &hold]).current_dir(packages::npm("min-bin")?))?;
    if server.stop()?.success() { Ok(()) } else { Err("the server did not end well".into()) }
}

/// Without a version no worker begins, and the log says why.
fn needs_a_version() -> Result<(), Failed> {
    let options = json!({ "protocolVersion": "auto", "rebootWorkerOnCrash": false }).to_string();
    match Server::start_example("min_bin", &[("SOCKETCLUSTER_OPTIONS", &options)]) {
        Err(log) if log.contains("InvalidOptionsError") && log.contains("protocolVersion") => Ok(()),
        Err(log) => Err(log.into()),
        Ok(_) => Err("it runs".into()),
    }
}

fn against_npm() -> Result<(), Failed> {
    let packets: Vec<String> = known().into_iter().chain(random()).map(|packet| packet.to_string()).collect();
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("codec");
    fs::create_dir_all(&scratch)?;
    let [input, output] = ["packets", "messages"].map(|name| scratch.join(name));
    fs::write(&input, packets.join("\n"))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec/codec.js");
    let mut node = Command::new("node");
    run_to_end(node.arg(script).args([&input, &output]).current_dir(packages::npm("min-bin")?))?;
    let theirs = fs::read_to_string(&output)?;
    assert_eq!(theirs.lines().count(), packets.len());
    for (packet, line) in packets.iter().zip(theirs.lines()) {
        let (bytes, read) = line.split_once(' ').ok_or("bytes and what they say")?;
        let bytes = STANDARD.decode(bytes)?;
        let mut ours = BytesMut::new();
        MinBin.encode(packet, &mut ours).map_err(|error| format!("{packet}: {error}"))?;
        assert_eq!(ours, bytes[..], "{packet}");
        let decoded: Value = serde_json::from_str(&MinBin.decode(&bytes).map_err(|error| error.to_string())?)?;
        assert_eq!(numbers(decoded), numbers(serde_json::from_str(read)?), "{packet}");
    }
    Ok(())
}

/// All numbers as JavaScript has them.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

/// Packets of every kind, and values at the edges of every form that MessagePack has.
fn known() -> Vec<Value> {
    let mut packets = vec![
        json!({ "event": "#handshake", "data": { "authToken": null }, "cid": 1 }),
        json!({ "event": "#publish", "data": { "channel": "foo", "data": [1, -1, 1.5, "é", null, true] }, "cid": 3 }),
        json!({ "event": "#publish", "data": { "channel": "foo", "data": null } }),
        json!({ "event": "#publish", "data": null, "cid": 7 }),
        json!({ "event": "#publish", "data": { "channel": "foo" } }),
        json!({ "event": "chat" }),
        json!({ "event": "", "data": 1 }),
        json!({ "event": "chat", "data": 0, "cid": 0 }),
        json!({ "rid": 2 }),
        json!({ "rid": 0, "data": false }),
        json!({ "rid": 5, "error": { "message": "no", "name": "MyError", "details": { "a": [1, { "b": 2 }] } } }),
        json!([{ "event": "a", "cid": 1 }, { "rid": 1, "data": [] }, { "foo": 1 }]),
        json!([]),
        json!("#1"),
        json!({ "event": "file", "data": { "base64": true, "data": "AAEC/f7/" } }),
        json!({ "event": "file", "data": [{ "base64": true, "data": STANDARD.encode(vec![7; 300]) }] }),
        json!({ "event": "file", "data": { "base64": true, "data": STANDARD.encode(vec![7; 70_000]) } }),
    ];
    let numbers = [0_i64, 127, 128, 255, 256, 65_535, 65_536, 2_147_483_647, 2_147_483_648, 9_007_199_254_740_991];
    let negative = [-1_i64, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, -2_147_483_649];
    packets.extend(numbers.iter().chain(&negative).map(|number| json!({ "event": "n", "data": number })));
    packets.extend([0.5, -0.0, 1e300, 1e-7, 3.0].map(|number| json!({ "event": "f", "data": number })));
    for length in [31, 32, 255, 256, 65_535, 65_536] {
        packets.push(json!({ "event": "s", "data": "x".repeat(length) }));
        packets.push(json!({ "event": "s", "data": "€".repeat(length) }));
    }
    for length in [15, 16, 65_535, 65_536] {
        packets.push(json!({ "event": "a", "data": vec![1; length] }));
        let map: Value = (0..length).map(|number| (format!("key-{number:06}"), json!(number))).collect();
        packets.push(json!({ "event": "m", "data": map }));
    }
    packets
}

fn random() -> Vec<Value> {
    const MANY: usize = 400;
    let value = || {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                vec(("[a-z]{1,5}", inner), 0..6).prop_map(|members| members.into_iter().collect()),
            ]
        })
    };
    let event = ("[a-z#]{0,9}", value(), proptest::option::of(1..1000_u32)).prop_map(|(event, data, cid)| match cid {
        Some(cid) => json!({ "event": event, "data": data, "cid": cid }),
        None => json!({ "event": event, "data": data }),
    });
    let publish = ("[a-z]{0,9}", value())
        .prop_map(|(channel, data)| json!({ "event": "#publish", "data": { "channel": channel, "data": data } }));
    let response = (0..1000_u32, value(), value())
        .prop_map(|(rid, error, data)| json!({ "rid": rid, "error": error, "data": data }));
    // Nothing but packets and batches: that package cannot read a bare null.
    let packet = prop_oneof![event, publish, response].boxed();
    let packet = prop_oneof![4 => packet.clone(), 1 => vec(packet, 0..4).prop_map(Value::from)];
    let mut runner = TestRunner::deterministic();
    (0..MANY).map(|_| packet.new_tree(&mut runner).unwrap().current()).collect()
}
