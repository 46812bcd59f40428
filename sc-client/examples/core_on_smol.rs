//! The core on smol: the same loop as on tokio, with other words for a socket and a moment.
//!
//! `cargo run -p sc-client --example core_on_smol -- 127.0.0.1:8000`

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "a driver, which the tests run too"
)]

use std::error::Error;
use std::fs::File;
use std::future::{Future, pending};
use std::io::{self, Read};
use std::time::Instant;

use sc_client::{ClientCore, Config, Output};
use sc_protocol::Entropy;
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

/// Masks and keys must be hard to guess.
struct Urandom(File);

impl Entropy for Urandom {
    fn fill(&mut self, buf: &mut [u8]) {
        self.0.read_exact(buf).expect("the system has random bytes");
    }
}

enum Happened {
    Read(io::Result<usize>),
    Deadline,
}

/// Connects, calls `echo` and answers what came back.
pub async fn echo(address: &str, data: &str) -> Result<String, Box<dyn Error>> {
    let config = Config { host: address.to_owned(), ..Config::default() };
    let entropy = Box::new(Urandom(File::open("/dev/urandom")?));
    let mut core = ClientCore::new(config.into(), entropy, Instant::now());
    let (mut stream, mut buffer) = (None::<TcpStream>, vec![0; 16 << 10]);
    core.connect(Instant::now());
    let call = core.call(Instant::now(), "echo", Some(data), None);
    loop {
        while let Some(output) = core.poll_output() {
            match output {
                Output::Connect => match TcpStream::connect(address).await {
                    Ok(open) => {
                        stream = Some(open);
                        core.handle_connected(Instant::now());
                    }
                    Err(error) => core.handle_closed(Instant::now(), &error.to_string()),
                },
                Output::Transmit(bytes) => {
                    if let Some(open) = &mut stream
                        && let Err(error) = open.write_all(&bytes).await
                    {
                        stream = None;
                        core.handle_closed(Instant::now(), &error.to_string());
                    }
                }
                Output::Close => stream = None,
                Output::Answer(id, result) if id == call => return Ok(result?.to_string()),
                news => println!("{news:?}"),
            }
        }
        let deadline = core.poll_timeout();
        let read = maybe(stream.as_mut().map(|open| open.read(&mut buffer)));
        let passed = maybe(deadline.map(Timer::at));
        match or(async { Happened::Read(read.await) }, async {
            passed.await;
            Happened::Deadline
        })
        .await
        {
            Happened::Read(Ok(read @ 1..)) => core.handle_bytes(Instant::now(), &mut buffer[..read]),
            Happened::Read(ended) => {
                stream = None;
                core.handle_closed(Instant::now(), &format!("{ended:?}"));
            }
            Happened::Deadline => core.handle_timeout(Instant::now()),
        }
    }
}

/// A future that is not there does not end.
async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    println!("{}", smol::block_on(echo(&address, "[1,2,3]"))?);
    Ok(())
}
