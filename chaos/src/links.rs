//! The paths between regions, as far as processes of ours use them: each is a listener that can be cut.

use std::io;

use parking_lot::Mutex;
use whimbrel_fleet::HostPort;

use crate::{
    relay::Relays,
    toxiproxy::{Effect, HttpError, Proxy, Stream, Toxic, Toxiproxy},
};

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("relay: {0}")]
    Relay(#[from] io::Error),
    #[error(transparent)]
    Toxiproxy(#[from] HttpError),
    #[error("toxiproxy listens at `{0}`, which is no address")]
    Address(String),
}

/// All links of one fleet; they are cut and healed together.
#[derive(Debug)]
pub enum Links {
    Relay(Relays),
    Toxiproxy {
        proxy: Toxiproxy,
        names: Mutex<Vec<String>>,
    },
}

const STREAMS: [(&str, Stream); 2] = [
    ("cut-up", Stream::Upstream),
    ("cut-down", Stream::Downstream),
];

impl Links {
    pub fn toxiproxy(proxy: Toxiproxy) -> Self {
        Self::Toxiproxy {
            proxy,
            names: Mutex::default(),
        }
    }

    /// A link to `upstream`; `name` is unique. Answers the address that stands for it.
    pub async fn open(&self, name: &str, upstream: &HostPort) -> Result<HostPort, LinkError> {
        match self {
            Self::Relay(relays) => Ok(relays.open(upstream).await?),
            Self::Toxiproxy { proxy, names } => {
                let wanted = Proxy {
                    name: name.to_owned(),
                    listen: "127.0.0.1:0".to_owned(),
                    upstream: upstream.to_string(),
                    enabled: true,
                };
                let made = proxy.create(&wanted).await?;
                names.lock().push(name.to_owned());
                made.listen
                    .parse()
                    .map_err(|_| LinkError::Address(made.listen))
            }
        }
    }

    /// From here on nothing gets through, and nobody is told.
    pub async fn cut(&self) -> Result<(), LinkError> {
        match self {
            Self::Relay(relays) => relays.set_cut(true),
            Self::Toxiproxy { proxy, names } => {
                let names = names.lock().clone();
                for name in &names {
                    for (toxic, stream) in STREAMS {
                        let toxic = Toxic {
                            name: toxic.to_owned(),
                            stream,
                            toxicity: 1.0,
                            effect: Effect::Timeout { timeout: 0 },
                        };
                        proxy.add_toxic(name, &toxic).await?;
                    }
                }
            }
        }
        Ok(())
    }

    pub async fn heal(&self) -> Result<(), LinkError> {
        match self {
            Self::Relay(relays) => relays.set_cut(false),
            Self::Toxiproxy { proxy, .. } => proxy.reset().await?,
        }
        Ok(())
    }
}
