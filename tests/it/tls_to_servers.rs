//! TLS to PostgreSQL and RabbitMQ: the server proves who it is, and we do where it asks.

use std::process::Command;

use tempfile::TempDir;

use crate::harness::{
    Authority, Done, Issued, Receiver, Servers, Stack, command, directory, eventually, make_template,
};
use crate::kit::servers::daemon::free_port;
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::programs::Programs;
use crate::kit::servers::rabbitmq::RabbitMq;
use crate::kit::{binary, signal};

/// A name that the servers' certificates have; they have no address.
const HOST: &str = "localhost";
const ENCRYPTION_KEY: (&str, &str) = ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

/// Files of ours, below the servers' directory.
struct Files {
    directory: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Files {
        let files = Files { directory: directory(), authority: Authority::new("the servers' authority") };
        files.write("ca.pem", &files.authority.pem());
        files.write("other-ca.pem", &Authority::new("another authority").pem());
        files.certify("client", &files.authority.client("shop_relay"));
        files.certify("stranger", &Authority::new("nobody").client("shop_relay"));
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn certify(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &issued.cert);
        self.write(&format!("{name}.key"), &issued.key);
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// Told on stderr, and nothing was done.
#[track_caller]
fn assert_refused(done: &Done, said: &[&str]) {
    assert_eq!(done.code, 1, "{done:?}");
    assert!(said.iter().all(|part| done.stderr.contains(part)), "{said:?}: {}", done.stderr);
}

/// One command with these settings.
async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Done {
    let directory = tempfile::tempdir().unwrap();
    let mut command: Command = command(arguments, directory.path());
    binary::configure(&mut command, settings.iter().copied().chain([ENCRYPTION_KEY]));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// With TLS only. `shop_relay` logs in by its certificate, the superuser by the password.
async fn postgres(files: &Files) -> Option<Postgres> {
    let options =
        ["fsync=off", "ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key", "ssl_ca_file=../ca.crt"];
    let mut postgres = Postgres::create(&Programs::find().ok()?, files.directory.path(), &options).unwrap();
    serve_postgres(&postgres, &files.authority.server(&[HOST]));
    postgres.daemon.write("ca.crt", &files.authority.pem()).unwrap();
    let hba = "hostssl all shop_relay all cert\nhostssl all all all scram-sha-256\n";
    postgres.daemon.write("data/pg_hba.conf", hba).unwrap();
    postgres.start().await.unwrap();
    Some(postgres)
}

fn serve_postgres(postgres: &Postgres, issued: &Issued) {
    postgres.daemon.write("server.crt", &issued.cert).unwrap();
    postgres.daemon.write("server.key", &issued.key).unwrap();
}

/// At this host and for this user, with the superuser's password where it is that one.
fn database_url(postgres: &Postgres, host: &str, user: &str) -> String {
    let mut url = url::Url::parse(&postgres.url()).unwrap();
    url.set_host(Some(host)).unwrap();
    if user != url.username() {
        url.set_username(user).unwrap();
        url.set_password(None).unwrap();
    }
    url.into()
}

#[tokio::test]
async fn postgresql_is_believed_by_its_authority_and_its_name_alone() {
    let files = Files::new();
    let Some(postgres) = postgres(&files).await else { return };
    let url = database_url(&postgres, HOST, "postgres");
    let (ca, other) = (files.path("ca.pem"), files.path("other-ca.pem"));
    let trusted = [("database.url", &*url), ("database.tls_ca", &*ca)];
    run(&["migrate"], &trusted).await.ok();
    run(&["stats"], &trusted).await.ok();
    let in_url = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
    run(&["stats"], &[("database.url", &in_url)]).await.ok();

    let untrusted = run(&["stats"], &[("database.url", &url), ("database.tls_ca", &other)]).await;
    assert_refused(&untrusted, &["database.tls_ca: the server's certificate is of no authority that is trusted here"]);
    let by_address = database_url(&postgres, "127.0.0.1", "postgres");
    let misnamed = run(&["stats"], &[("database.url", &by_address), ("database.tls_ca", &ca)]).await;
    assert_refused(&misnamed, &["database.url: the server's certificate is not for this host"]);
    let by_authority = format!("{by_address}?sslmode=verify-ca");
    run(&["stats"], &[("database.url", &by_authority), ("database.tls_ca", &ca)]).await.ok();
    let plain = run(&["stats"], &[("database.url", &format!("{url}?sslmode=disable"))]).await;
    assert_refused(&plain, &["no encryption"]);
    for (weak, said) in [("require", "has sslmode=require, and database.tls_ca is set"), ("disable", "sslmode=disable")]
    {
        let weak = format!("{url}?sslmode={weak}");
        let refused = run(&["stats"], &[("database.url", &weak), ("database.tls_ca", &ca)]).await;
        assert!(refused.code == 64 && refused.stderr.contains(said), "{refused:?}");
    }

    serve_postgres(&postgres, &files.authority.expired_server(&[HOST]));
    assert!(signal(postgres.daemon.id().unwrap(), libc::SIGHUP), "it reads its files again");
    let expired = eventually("it shows the new certificate", async || {
        let done = run(&["stats"], &trusted).await;
        (done.code != 0).then_some(done)
    });
    assert_refused(&expired.await, &["database.url: the server's certificate has expired"]);
}

#[tokio::test]
async fn postgresql_asks_for_a_certificate_and_gets_the_right_one() {
    let files = Files::new();
    let Some(postgres) = postgres(&files).await else { return };
    let superuser = database_url(&postgres, HOST, "postgres");
    let ca = files.path("ca.pem");
    run(&["migrate"], &[("database.url", &superuser), ("database.tls_ca", &ca)]).await.ok();
    let db = sqlx::PgPool::connect_lazy(&superuser).unwrap();
    sqlx::raw_sql("create role shop_relay login superuser").execute(&db).await.unwrap();
    let url = database_url(&postgres, HOST, "shop_relay");
    let with = async |name: &str| {
        let (cert, key) = (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")));
        let settings = [("database.tls_cert", &*cert), ("database.tls_key", &*key)];
        run(&["stats"], &[&settings[..], &[("database.url", &*url), ("database.tls_ca", &*ca)]].concat()).await
    };

    with("client").await.ok();

    assert_refused(&with("stranger").await, &["database.tls_cert: the server refuses our certificate"]);
    let without = run(&["stats"], &[("database.url", &url), ("database.tls_ca", &ca)]).await;
    assert_refused(&without, &["certificate", "set database.tls_cert and database.tls_key"]);
}

/// With a listener for TLS that asks for a certificate, beside the plain one of the tests. The port of the former.
async fn rabbitmq(files: &Files) -> Option<(RabbitMq, u16)> {
    let port = free_port();
    let settings = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = ca.crt\nssl_options.certfile = server.crt\n\
         ssl_options.keyfile = server.key\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
         auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n"
    );
    let programs = Programs::find().ok()?;
    let mut rabbitmq =
        RabbitMq::create(&programs, files.directory.path(), &settings, "rabbitmq_auth_mechanism_ssl").unwrap();
    serve_rabbitmq(&rabbitmq, &files.authority.server(&[HOST]));
    rabbitmq.daemon.write("ca.crt", &files.authority.pem()).unwrap();
    rabbitmq.start().await.unwrap();
    Some((rabbitmq, port))
}

fn serve_rabbitmq(rabbitmq: &RabbitMq, issued: &Issued) {
    rabbitmq.daemon.write("server.crt", &issued.cert).unwrap();
    rabbitmq.daemon.write("server.key", &issued.key).unwrap();
}

#[tokio::test]
async fn rabbitmq_is_believed_by_its_authority_and_its_name_and_believes_our_certificate() {
    let files = Files::new();
    let Some((rabbitmq, port)) = rabbitmq(&files).await else { return };
    let (ca, other) = (files.path("ca.pem"), files.path("other-ca.pem"));
    let own = |name: &str| (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")));
    let check = async |url: &str, ca: &str, own: Option<&(String, String)>| {
        let mut settings = vec![("broker.url", url), ("broker.tls_ca", ca), ("broker.operation_timeout", "20s")];
        if let Some((cert, key)) = own {
            settings.extend([("broker.tls_cert", &**cert), ("broker.tls_key", &**key)]);
        }
        run(&["topology", "check"], &settings).await
    };
    let (client, stranger) = (own("client"), own("stranger"));
    let url = format!("amqps://guest:guest@{HOST}:{port}/%2f");

    let connected = check(&url, &ca, Some(&client)).await;

    assert!(connected.code == 1 && connected.stdout.contains("is missing"), "it answers: {connected:?}");
    let untrusted = check(&url, &other, Some(&client)).await;
    assert_refused(&untrusted, &["broker.tls_ca: the server's certificate is of no authority that is trusted here"]);
    let by_address = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");
    let misnamed = check(&by_address, &ca, Some(&client)).await;
    assert_refused(&misnamed, &["broker.url: the server's certificate is not for this host"]);
    assert_refused(&check(&url, &ca, None).await, &["broker.tls_cert: "]);
    assert_refused(&check(&url, &ca, Some(&stranger)).await, &["broker.tls_cert: "]);
    let plain = check(&format!("amqp://guest:guest@{HOST}:{port}/%2f"), &ca, None).await;
    assert!(plain.code == 64 && plain.stderr.contains("use amqps://"), "{plain:?}");

    // The certificate is the login: no password anywhere.
    rabbitmq.control(&["add_user", "shop_relay", "forgotten"]).await.unwrap();
    rabbitmq.control(&["clear_password", "shop_relay"]).await.unwrap();
    rabbitmq.control(&["set_permissions", "shop_relay", ".*", ".*", ".*"]).await.unwrap();
    let external = format!("amqps://{HOST}:{port}/%2f?auth_mechanism=external");
    let connected = check(&external, &ca, Some(&client)).await;
    assert!(connected.code == 1 && connected.stdout.contains("is missing"), "it answers: {connected:?}");

    serve_rabbitmq(&rabbitmq, &files.authority.expired_server(&[HOST]));
    rabbitmq.control(&["eval", "ssl:clear_pem_cache()."]).await.unwrap();
    let expired = check(&url, &ca, Some(&client)).await;
    assert_refused(&expired, &["broker.url: the server's certificate has expired"]);
}

#[tokio::test]
async fn everything_works_with_tls_to_both_servers() {
    let files = Files::new();
    let Some(postgres) = postgres(&files).await else { return };
    let Some((rabbitmq, port)) = rabbitmq(&files).await else { return };
    let (ca, cert, key) = (files.path("ca.pem"), files.path("client.pem"), files.path("client.key"));
    // The tests themselves look at the servers without verifying them.
    let servers = Servers {
        database_url: database_url(&postgres, HOST, "postgres"),
        amqp_url: rabbitmq.url(),
        template: make_template(&postgres.url()).await.unwrap(),
    };
    let broker_url = format!("amqps://guest:guest@{HOST}:{port}/%2f");
    let settings = [
        ("database.tls_ca", &*ca),
        ("broker.tls_ca", &*ca),
        ("broker.tls_cert", &*cert),
        ("broker.tls_key", &*key),
        ("broker.url", &*broker_url),
    ];
    let (stack, receiver) = (Stack::on(&servers, &settings).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    stack.worker().await;

    let event = stack.emit("acme", "order.created", "{}").await;

    stack.wait_status(event, "delivered").await;
    let encrypted = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)
                      where a.application_name like 'posthaste%' and not s.ssl";
    assert_eq!(stack.number(encrypted).await, 0);
    stack.db.close().await;
}
