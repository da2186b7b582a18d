//! One connection to the broker, with a name that operators see and a time-out on everything.

use lapin::options::ConfirmSelectOptions;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use secrecy::ExposeSecret;

use super::{BrokerError, Result, Settings, encrypted, within};

pub struct Link {
    connection: Connection,
    settings: Settings,
}

impl Link {
    pub async fn open(settings: &Settings, name: &str) -> Result<Link> {
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let mut uri: AMQPUri = settings.url.expose_secret().parse().map_err(|_| {
            BrokerError::Url("is not an AMQP URL; write amqp://user:password@host:5672/vhost".to_owned())
        })?;
        // A network that swallows packets shows only in missing heartbeats.
        uri.query.heartbeat.get_or_insert(settings.heartbeat.as_secs().clamp(1, 600) as u16);
        let connecting = encrypted::connect(uri, properties, &settings.tls);
        let connection = within(settings.operation_timeout, "connect", connecting).await?;
        Ok(Link { connection, settings: settings.clone() })
    }

    pub async fn channel(&self) -> Result<Channel> {
        within(self.settings.operation_timeout, "open a channel", self.connection.create_channel()).await
    }

    /// A channel on which every publish is confirmed.
    pub async fn confirming_channel(&self) -> Result<Channel> {
        let channel = self.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        within(self.settings.operation_timeout, "confirm.select", select).await?;
        Ok(channel)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// The broker has a memory or disk alarm: it reads nothing that is published until the alarm ends.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub async fn close(&self) {
        // Bounded and best effort: a broker that is gone needs no goodbye.
        let _ = within(self.settings.operation_timeout, "close", self.connection.close(200, "done".into())).await;
    }
}
