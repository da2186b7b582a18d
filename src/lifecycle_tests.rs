use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_secs(60);
const NOTHING: Drained = Drained { abandoned: Vec::new(), failed: Vec::new() };

#[tokio::test]
async fn the_first_signal_asks_and_the_second_forces() {
    let shutdown = Shutdown::new();
    let (signal, signals) = mpsc::channel(2);
    let (forced, mut was_forced) = oneshot::channel();
    shutdown.on_signals(signals, || forced.send(()).unwrap());
    assert!(!shutdown.token().is_cancelled());
    signal.send("SIGTERM").await.unwrap();
    shutdown.asked().await;
    assert!(was_forced.try_recv().is_err());
    signal.send("SIGINT").await.unwrap();
    was_forced.await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_tasks_that_stop_when_asked() {
    let shutdown = Shutdown::new();
    let asked = shutdown.token().clone();
    let task = shutdown.spawn("relay", async move {
        asked.cancelled().await;
        7
    });
    assert_eq!(shutdown.drain(LONG).await, NOTHING);
    assert_eq!(task.await.unwrap(), 7);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_named() {
    let shutdown = Shutdown::new();
    shutdown.spawn("done", async {}).await.unwrap();
    shutdown.spawn("stuck", std::future::pending::<()>());
    shutdown.spawn(format!("delivery {}", 5), std::future::pending::<()>());
    let drained = shutdown.drain(Duration::from_millis(20)).await;
    assert_eq!(drained.abandoned, ["stuck", "delivery 5"]);
}

#[tokio::test]
async fn a_panic_stops_the_process_and_is_named() {
    let shutdown = Shutdown::new();
    let task = shutdown.spawn("worker", async { panic!("on purpose") });
    shutdown.asked().await;
    assert!(task.await.is_err());
    assert_eq!(shutdown.drain(LONG).await, Drained { abandoned: vec![], failed: vec!["worker".into()] });
}

#[tokio::test]
async fn a_failure_stops_the_process_and_is_named() {
    let shutdown = Shutdown::new();
    shutdown.spawn_fallible("relay", async { Ok::<(), String>(()) }).await.unwrap();
    assert!(!shutdown.has_failed() && !shutdown.token().is_cancelled());
    shutdown.spawn_fallible("worker", async { Err("the task 'settler' panicked") });
    shutdown.asked().await;
    assert!(shutdown.has_failed());
    let failed = vec!["worker: the task 'settler' panicked".into()];
    assert_eq!(shutdown.drain(LONG).await, Drained { abandoned: vec![], failed });
}

#[tokio::test]
async fn an_aborted_task_is_neither_abandoned_nor_failed() {
    let shutdown = Shutdown::new();
    shutdown.spawn("aborted", std::future::pending::<()>()).abort();
    assert_eq!(shutdown.drain(LONG).await, NOTHING);
}

#[tokio::test]
async fn real_signals_arrive_by_name() {
    let mut signals = signals().unwrap();
    for (flag, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
        let status = std::process::Command::new("kill").args([flag, &std::process::id().to_string()]).status();
        assert!(status.unwrap().success());
        assert_eq!(signals.recv().await, Some(name));
    }
}
