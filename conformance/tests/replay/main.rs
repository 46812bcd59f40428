//! What recorded SocketCluster servers sent to recorded clients, and what our engine sends to the same clients: a pure
//! machine, no sockets, virtual time. Every difference is listed with its reason in `conformance/transcripts/differences/`.

#[path = "../../../sc-server/tests/rig/mod.rs"]
mod rig;

mod apps;
mod differences;
mod drive;
mod masks;
mod recording;

use std::collections::{BTreeMap, BTreeSet};

use apps::Flavour;
use drive::{Seen, Version};
use recording::{From, Kind, Recording};
use sc_protocol::heartbeat::Policy;

const fn v1(pack: &'static str, master: bool) -> Version {
    Version { pack, policy: Policy::V1, flavour: Flavour::Classic, master }
}

const V4_2_0: Version = v1("sc4.2.0", false);
const V4_3_2: Version = v1("sc4.3.2", false);
const V5_15: Version = v1("sc5.15", false);
const V14_4_2: Version = v1("sc14.4.2", false);
const V20_0_1: Version = Version { pack: "sc20.0.1", policy: Policy::V2, flavour: Flavour::Streams, master: false };
/// Server 20 with `protocolVersion: 1`, which changes its pings and nothing else; ours speaks protocol 1 then.
const V20_0_1_P1: Version =
    Version { pack: "sc20.0.1-p1", policy: Policy::V1, flavour: Flavour::Streams, master: false };
const MASTERS: [Version; 3] = [v1("sc4.2.0-master", true), v1("sc4.3.2-master", true), v1("sc14.4.2-master", true)];

/// Replays a pack and holds what differs against its list.
fn replay(version: Version) {
    let listed = differences::load(version.pack);
    let (mut found, mut applied) = (BTreeMap::new(), BTreeSet::new());
    for recording in recording::load(version.pack) {
        let (theirs, ours) = drive::play(version, &recording, false);
        let conns: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for conn in conns {
            let (mut theirs, mut ours) = (side(&theirs, conn), side(&ours, conn));
            for &rule in &listed.rules {
                if rule.apply(&mut theirs, &mut ours) {
                    applied.insert(rule);
                }
            }
            let lines = differences::diff(&theirs, &ours);
            if !lines.is_empty() {
                found.insert((recording.name.clone(), conn.clone()), lines);
            }
        }
    }
    for rule in &listed.rules {
        assert!(applied.contains(rule), "{}: the rule {rule:?} applies nowhere any more", version.pack);
    }
    if let Some(report) = differences::against(&listed, &found) {
        panic!("{}: differences that are not listed:\n\n{report}", version.pack);
    }
}

/// What one connection saw, masked with the ids of all connections of that side.
fn side(seen: &Seen, conn: &str) -> Vec<String> {
    let ids = masks::ids(seen.iter());
    seen.get(conn).map(|lines| lines.iter().map(|line| masks::masked(line, &ids)).collect()).unwrap_or_default()
}

#[test]
fn sc_4_2_0() {
    replay(V4_2_0);
}

#[test]
fn sc_4_3_2() {
    replay(V4_3_2);
}

#[test]
fn sc_5_15() {
    replay(V5_15);
}

#[test]
fn sc_14_4_2() {
    replay(V14_4_2);
}

#[test]
fn sc_20_0_1() {
    replay(V20_0_1);
}

#[test]
fn sc_20_0_1_with_protocol_version_1() {
    replay(V20_0_1_P1);
}

#[test]
fn a_cluster_of_sc_4_2_0() {
    replay(MASTERS[0]);
}

#[test]
fn a_cluster_of_sc_4_3_2() {
    replay(MASTERS[1]);
}

#[test]
fn a_cluster_of_sc_14_4_2() {
    replay(MASTERS[2]);
}

/// An engine that finds out what its clients speak does with each recording what one does that was told.
#[test]
fn found_out_is_as_good_as_told() {
    let mut otherwise = BTreeSet::new();
    for version in [V4_2_0, V4_3_2, V5_15, V14_4_2, V20_0_1, V20_0_1_P1] {
        // The pings of both versions end a client with a binary codec; a server with one is told.
        for recording in recording::load(version.pack).into_iter().filter(|it| it.name != "codec-min-bin") {
            let [(_, told), (_, found_out)] = [false, true].map(|auto| drive::play(version, &recording, auto));
            let conns: BTreeSet<&String> = told.keys().chain(found_out.keys()).collect();
            if conns.iter().any(|conn| side(&told, conn) != side(&found_out, conn)) {
                otherwise.insert(format!("{} {}", version.pack, recording.name));
            }
        }
    }
    let expected = [
        // The other version's pong is one before the handshake, and not 4009.
        "sc14.4.2 before-handshake-empty",
        "sc20.0.1 before-handshake-pong1",
        // At the upgrade nothing is known of a client, and the text of a silent block is that of 14.
        "sc20.0.1 handshake-ws-middleware-blocked",
        "sc4.2.0 before-handshake-empty",
        "sc4.3.2 before-handshake-empty",
    ];
    assert_eq!(otherwise.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn no_recording_is_left_out() {
    let packs = [V4_2_0, V4_3_2, V5_15, V14_4_2, V20_0_1, V20_0_1_P1].into_iter().chain(MASTERS);
    let recordings: Vec<Recording> = packs.flat_map(|version| recording::load(version.pack)).collect();
    assert_eq!(recordings.len(), 788);
    assert_eq!(recordings.iter().filter(|recording| recording.proxied).count(), 80, "with a real client");
    // A proxy that swallowed the upgrade or refused the connection: there is nothing to replay of these.
    assert_eq!(recordings.iter().map(never_reached).sum::<usize>(), 23, "connections that reached no server");
}

/// Connections that a client opened and no server ever saw.
fn never_reached(recording: &Recording) -> usize {
    let conns: BTreeSet<&str> = recording.lines.iter().map(|line| line.conn.as_str()).collect();
    let answered = |conn: &&str| {
        recording.lines.iter().any(|line| line.conn == **conn && line.from == From::Server && line.kind == Kind::Http)
    };
    let asked = |conn: &&str| recording.lines.iter().any(|line| line.conn == **conn && line.from == From::Client);
    conns.iter().filter(|conn| asked(conn) && !answered(conn)).count()
}
