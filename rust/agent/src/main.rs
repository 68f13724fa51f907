//! The command `navarch-agent`.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::process::ExitCode;

use navarch_agent::settings::{Flags, Machine, Settings};

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(error) => {
            // The help, which was asked for, is no fault; where it can't be printed nobody reads it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    tracing_subscriber::fmt()
        .with_max_level(flags.log_level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match start(flags) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("navarch-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<u8, Box<dyn std::error::Error>> {
    let machine = Machine {
        environment: std::env::vars().collect::<BTreeMap<_, _>>(),
        read: &|path: &Path| std::fs::read_to_string(path).ok(),
        hostname: hostname(),
        ip: own_ip(),
    };
    let settings = Settings::read(flags, machine)?;
    // One thread does it all: little memory, and one proxy's worth of work.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(navarch_agent::run(settings))?)
}

fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// The address that this machine would use towards the outside; nothing is sent.
fn own_ip() -> Option<String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}
