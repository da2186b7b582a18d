//! `roles sql` and `roles rabbitmq`: what an administrator of the servers runs. Nothing is connected to.

use super::failure::Outcome;
use super::output;
use crate::broker::topology::Names;
use crate::broker::users;
use crate::cli::Roles;
use crate::config::Config;
use crate::domain::message::Carried;
use crate::store::roles;

pub fn run(config: &Config, command: &Roles) -> Outcome {
    let script = match command {
        Roles::Sql { prefix } => roles::sql(prefix, config.broker.payload == Carried::Reference),
        Roles::Rabbitmq { prefix, vhost } => users::script(prefix, vhost, &Names::new(&config.broker.prefix)),
    };
    output::line(script.trim_end())
}
