use std::net::SocketAddr;

use anyhow::{Context, ensure};
use ingle_wire::Token;

use super::{config_text, given};
use crate::cli::ServeArgs;

/// The listener for operators.
#[derive(Debug)]
pub(crate) struct AdminConfig {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<Token>,
}

impl AdminConfig {
    pub(super) fn of(args: &ServeArgs) -> anyhow::Result<Option<Self>> {
        let file = given(args.admin_token_file.as_deref());
        let token = file.map(|file| {
            let token = || Ok::<_, anyhow::Error>(Token::new(&config_text(file)?)?);
            token().with_context(|| format!("--admin_token_file={}", file.display()))
        });
        let token = token.transpose()?;
        if args.admin_port == 0 {
            return Ok(None);
        }
        let address = SocketAddr::new(args.admin_bind_address, args.admin_port);
        ensure!(
            address.ip().is_loopback() || token.is_some(),
            "--admin_bind_address={} can be reached from outside: --admin_token_file is needed",
            address.ip()
        );
        Ok(Some(Self { address, token }))
    }
}
