//! `posthaste roles`.

use clap::Subcommand;

use super::parse;

#[derive(Debug, Subcommand)]
pub enum Roles {
    /// Print SQL that makes roles in PostgreSQL and grants each what it needs, and nothing else.
    Sql {
        /// The names of the roles begin with this and an underscore.
        #[arg(long, default_value = "posthaste", value_parser = parse::role_prefix)]
        prefix: String,
    },
    /// Print shell commands that make users in RabbitMQ and permit each what it needs, and nothing else.
    Rabbitmq {
        /// The names of the users begin with this and an underscore.
        #[arg(long, default_value = "posthaste", value_parser = parse::role_prefix)]
        prefix: String,
        /// The virtual host.
        #[arg(long, default_value = "/", value_parser = parse::vhost)]
        vhost: String,
    },
}
