//! Every incident: what goes wrong, which alerts that must raise, and what repairs it.

use clap::ValueEnum;

use crate::incident::causes::{SETTLED, database, endpoints, processes, servers};
use crate::incident::scene::{Scene, Seen};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Incident {
    StarvedWorker,
    DeadLetters,
    FailingEndpoints,
    OpenCircuits,
    SlowEndpoint,
    WrongSecret,
    RelayDown,
    WorkerDown,
    ForgottenTransaction,
    NoLeader,
    BrokerAlarm,
    PurgedQueue,
    DatabaseDown,
    UsedId,
    MissingPartitions,
    ForgottenReport,
}

impl Incident {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What is done to the system, and what repairs it beside the commands of the runbook.
    pub fn story(self) -> (&'static str, &'static str) {
        use Incident::*;
        match self {
            StarvedWorker => ("the worker gets CPU for 0.5 s in 2.3 s", "it gets CPU again"),
            DeadLetters => ("an endpoint answers 500 to the only attempt of 3 events", "requeue, by the runbook"),
            FailingEndpoints => ("120 endpoints answer 500 to 6 events each", "they answer 200"),
            OpenCircuits => {
                ("11 endpoints answer 500 for half a minute", "they answer 200; one is resumed, by the runbook")
            }
            SlowEndpoint => ("an endpoint takes 6 s, 3 times a second", "it answers at once"),
            WrongSecret => ("a receiver has another endpoint's secret", "it is started with its own"),
            RelayDown => ("SIGKILL of the only relay", "a relay is started"),
            WorkerDown => ("SIGKILL of the only worker", "a worker is started"),
            ForgottenTransaction => {
                ("an open transaction holds a lock on two tables", "its session is ended, by the runbook")
            }
            NoLeader => ("a session that is no relay has the leader's lock", "it is ended, by the runbook"),
            BrokerAlarm => ("RabbitMQ's memory alarm", "it has memory again"),
            PurgedQueue => ("the delay queues are purged", "nothing: the relay has published again what was in them"),
            DatabaseDown => ("PostgreSQL is stopped", "it is started"),
            UsedId => ("an event with an id that was used before", "it is emitted with a new id, by the runbook"),
            MissingPartitions => ("the partitions from the third day on are dropped", "they are made, by the runbook"),
            ForgottenReport => (
                "an open transaction has read a day that is over",
                "its session is ended and the day dropped, by the runbook",
            ),
        }
    }

    pub fn alerts(self) -> &'static [&'static str] {
        use Incident::*;
        match self {
            StarvedWorker => &["PosthasteSloFastBurn", "PosthasteSloSlowBurn"],
            DeadLetters => &["PosthasteDeadLetters"],
            FailingEndpoints => &["PosthasteRetriesWaiting", "PosthasteFailureRate"],
            OpenCircuits => &["PosthasteManyCircuitsOpen"],
            SlowEndpoint => &["PosthasteSlowEndpoints"],
            WrongSecret => &["PosthasteSignatureFailures"],
            RelayDown => &["PosthasteRelayDown"],
            WorkerDown => &["PosthasteWorkerDown"],
            ForgottenTransaction => &["PosthasteOutboxOld", "PosthasteDutyOverdue"],
            NoLeader => &["PosthasteNoLeader"],
            BrokerAlarm => &["PosthasteBrokerUnusable", "PosthasteUnconfirmedOld"],
            PurgedQueue => &["PosthasteLostAndRepublished"],
            DatabaseDown => &["PosthasteDatabaseUnusable"],
            UsedId => &["PosthasteSetAside"],
            MissingPartitions => &["PosthastePartitionsOverdue"],
            ForgottenReport => &["PosthasteRetentionOverdue"],
        }
    }

    /// In a system in which nothing fires; leaves one.
    pub async fn provoke(self, scene: &mut Scene) -> Result<Vec<Seen>, String> {
        let alerts = self.alerts();
        let seen = match self {
            Incident::StarvedWorker => processes::starved(scene, alerts).await,
            Incident::DeadLetters => endpoints::dead_letters(scene, alerts).await,
            Incident::FailingEndpoints => endpoints::retries(scene, alerts).await,
            Incident::OpenCircuits => endpoints::circuits(scene, alerts).await,
            Incident::SlowEndpoint => endpoints::slow(scene, alerts).await,
            Incident::WrongSecret => endpoints::signatures(scene, alerts).await,
            Incident::RelayDown => processes::relay(scene, alerts).await,
            Incident::WorkerDown => processes::worker(scene, alerts).await,
            Incident::ForgottenTransaction => database::locked(scene, alerts).await,
            Incident::NoLeader => database::no_leader(scene, alerts).await,
            Incident::BrokerAlarm => servers::broker_alarm(scene, alerts).await,
            Incident::PurgedQueue => servers::broker_lost(scene, alerts).await,
            Incident::DatabaseDown => servers::database_down(scene, alerts).await,
            Incident::UsedId => database::set_aside(scene, alerts).await,
            Incident::MissingPartitions => database::partitions(scene, alerts).await,
            Incident::ForgottenReport => database::retention(scene, alerts).await,
        }?;
        // The next one begins with nothing on its way.
        scene.stack.settled(SETTLED).await?;
        Ok(seen)
    }
}
