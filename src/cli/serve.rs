//! `clipcap serve`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::serve::{Service, ServiceConfig};

use super::decoding::DecodeArgs;
use super::model::ModelArgs;

const MEGABYTE: u64 = 1024 * 1024;

/// Caption pictures over HTTP, and on a page to drop them on
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap serve --decode beam --num-captions 3\n  \
    curl --data-binary @photo.jpg http://127.0.0.1:8080/caption")]
pub struct ServeArgs {
    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
    /// Port to listen on
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Largest picture file that is taken, in megabytes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_size: u64,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

pub fn run(args: ServeArgs) -> Result<ExitCode> {
    let (model, captioning) = args.model.load(&args.decoding)?;
    let config = ServiceConfig {
        model: model.display().to_string(),
        batch_size: args.model.batch_size.get(),
        max_bytes: args.max_size * MEGABYTE,
    };
    let address = SocketAddr::new(args.host, args.port);
    let listening = Service::new(captioning, config)?.listen(address)?;
    eprintln!("listening on http://{address} until Ctrl-C");
    listening.join()?;
    Ok(ExitCode::SUCCESS)
}
