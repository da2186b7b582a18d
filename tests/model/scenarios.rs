//! What is explored: each scenario takes a part of the protocol to some depth, all together within seconds.

use crate::checker::Scenario;
use crate::faults::Fault;
use crate::reconcile::Markers;
use crate::world::{Answer, Budget};

const WORKER_FAULTS: &[Fault] = Fault::ALL.split_at(Fault::OF_WORKERS).0;
const RELAY_FAULTS: [Fault; 5] =
    [Fault::WorkerCrash, Fault::ChannelLost, Fault::RelayCrash, Fault::RelaySessionLost, Fault::DatabaseCrash];

/// Nothing goes wrong: every outcome, holds, an endpoint that is disabled and enabled, requeues.
pub fn calm() -> Scenario {
    Scenario {
        name: "calm",
        max_attempts: 3,
        budget: Budget { faults: 0, holds: 2, disables: 1, requeues: 1, early: 0 },
        faults: &[],
        answers: vec![Answer::Success, Answer::Failure, Answer::Gone, Answer::ComeBackLater],
        markers: Markers::Coarse,
        poison: false,
    }
}

/// Three faults around the workers; what the relay and the reconciler do must not be needed.
pub fn crashes() -> Scenario {
    Scenario {
        name: "crashes",
        max_attempts: 2,
        budget: Budget { faults: 3, ..Budget::default() },
        faults: WORKER_FAULTS,
        answers: vec![Answer::Success, Answer::Failure],
        markers: Markers::None,
        poison: false,
    }
}

/// As `crashes`, where every message that is handed out again ends its delivery.
pub fn poison() -> Scenario {
    Scenario { name: "poison", poison: true, ..crashes() }
}

/// Three faults around the way from the outbox into the broker.
pub fn relays() -> Scenario {
    Scenario { name: "relays", faults: &RELAY_FAULTS, markers: Markers::Coarse, ..crashes() }
}

/// Two faults of any kind, with holds and an endpoint that is disabled and enabled.
pub fn losses() -> Scenario {
    Scenario {
        name: "losses",
        budget: Budget { faults: 2, holds: 1, disables: 1, requeues: 0, early: 0 },
        faults: &Fault::ALL,
        markers: Markers::Coarse,
        ..crashes()
    }
}

/// Two faults of any kind while a delivery dies or is delivered, and is requeued or sent again twice.
pub fn requeues() -> Scenario {
    Scenario {
        name: "requeues",
        max_attempts: 1,
        budget: Budget { faults: 2, requeues: 2, ..Budget::default() },
        ..losses()
    }
}

/// One fault of any kind while an operator asks for a retry before its time, of what is held too.
pub fn early_retries() -> Scenario {
    Scenario {
        name: "early retries",
        budget: Budget { faults: 1, holds: 1, disables: 1, requeues: 0, early: 1 },
        ..losses()
    }
}

/// One fault of any kind in a long life: no fault may echo from attempt to attempt.
pub fn long_lives() -> Scenario {
    Scenario {
        name: "long lives",
        max_attempts: 5,
        budget: Budget { faults: 1, holds: 1, ..Budget::default() },
        ..losses()
    }
}

/// Every step of every marker, and one fault.
pub fn markers() -> Scenario {
    Scenario {
        name: "markers",
        budget: Budget { faults: 1, holds: 1, ..Budget::default() },
        markers: Markers::Fine,
        ..losses()
    }
}
