//! What a primary keeps: logins and extensions, in a real server.

use super::*;
use crate::agent::logins::{self, Login, Logins};
use crate::agent::{extensions, scram};

const DATABASE: &str = "a9s_apps_default_db";

impl Fixture {
    /// Puts a list of logins into the Secret and waits until the agent says that it applies.
    async fn set_logins(&self, roles: &[&str]) {
        let login = |role: &&str| Login { role: (*role).to_owned(), verifier: scram::verifier(&password(role)) };
        let logins: Logins = roles.iter().map(|role| (format!("uid of {role}"), login(role))).collect();
        let content = serde_json::to_vec(&logins).expect("plain data");
        let hash = report::hash(&content);
        self.memory.logins.send_replace(Some(content));
        until(|| self.memory.notes.borrow().get(logins::ANNOTATION) == Some(&hash)).await;
    }

    async fn sql_of(&self, role: &str, statement: &str) -> Result<String, String> {
        self.sql_in(DATABASE, role, statement).await
    }

    async fn sql_in(&self, database: &str, role: &str, statement: &str) -> Result<String, String> {
        let (host, psql) = (self.server.pod.address, self.server.bin_directory.join("psql"));
        let target = format!("host={host} user={role} dbname={database} sslmode=require connect_timeout=5");
        let output = tokio::process::Command::new(psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, &target])
            .env("PGPASSWORD", password(role))
            .output()
            .await
            .expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

fn password(role: &str) -> String {
    format!("secret of {role}")
}

#[test]
fn logins_come_and_go_with_the_secret_and_leave_what_they_made() {
    as_server_user("primary::logins_come_and_go_with_the_secret_and_leave_what_they_made", || {
        let fixture = Fixture::new(true);
        let (one, two) = ("a8s-sb-AAAAAAAAA", "a8s-sb-bbbbbbbbb");
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.set_logins(&[one, two]).await;
                fixture.sql_of(one, "CREATE TABLE shared (n int); INSERT INTO shared VALUES (1)").await.expect("made");
                fixture.sql_of(two, "INSERT INTO shared VALUES (2); ALTER TABLE shared ADD m int").await.expect("ours");
                // Somebody may go back to the role they came with, and own things.
                let own =
                    "SET ROLE NONE; CREATE SCHEMA own; CREATE TABLE own.t (n int); GRANT SELECT ON own.t TO PUBLIC";
                let error = fixture.sql_of(one, own).await;
                assert!(error.is_ok(), "{error:?}");
                fixture.sql("CREATE DATABASE other OWNER a9s_user").await;
                fixture.sql_in("other", one, "SET ROLE NONE; CREATE TABLE public.x (n int)").await.expect("made");

                let session = fixture.sql_of(one, "SELECT pg_sleep(60)");
                let dropping = async {
                    let there = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'a8s-sb-A%'";
                    while fixture.sql(there).await != "1" {}
                    fixture.set_logins(&[two]).await;
                };
                let (ended, ()) = tokio::join!(session, dropping);
                assert!(ended.expect_err("ended").contains("terminating connection"));
                let roles = "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'";
                assert_eq!(fixture.sql(roles).await, two);
                let error = fixture.sql_of(one, "SELECT 1").await.expect_err("gone");
                assert!(error.contains("authentication failed"), "{error}");
                let sum = "SELECT (SELECT sum(n) FROM shared) + (SELECT count(*) FROM own.t)";
                assert_eq!(fixture.sql_of(two, sum).await.expect("ours"), "3");
                fixture.set_logins(&[]).await;
                assert_eq!(fixture.sql(roles).await, "");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_login_that_somebody_changed_is_put_right_and_other_roles_stay() {
    as_server_user("primary::a_login_that_somebody_changed_is_put_right_and_other_roles_stay", || {
        let fixture = Fixture::new(true);
        let role = "a8s-sb-ccccccccc";
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.sql("CREATE ROLE \"a8s-sb-mine\" LOGIN").await;
                fixture.set_logins(&[role]).await;
                let spoil = format!("ALTER ROLE \"{role}\" SUPERUSER PASSWORD 'x'; REVOKE a9s_user FROM \"{role}\"");
                fixture.sql(&spoil).await;
                logins::apply_now(&fixture.memory, &fixture.server.pod.socket_directory).await.expect("applied");
                let who = "SELECT session_user, current_user, current_setting('is_superuser')";
                assert_eq!(fixture.sql_of(role, who).await.expect("a login"), format!("{role}|a9s_user|off"));
                assert_eq!(fixture.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'a8s-sb-mine'").await, "1");
                let seen = "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%SCRAM-SHA%'";
                fixture.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
                assert_eq!(fixture.sql(seen).await, "0");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn nothing_that_a_login_has_made_is_run_in_the_place_of_the_superuser() {
    as_server_user("primary::nothing_that_a_login_has_made_is_run_in_the_place_of_the_superuser", || {
        let fixture = Fixture::new(true);
        let (one, two) = ("a8s-sb-eeeeeeeee", "a8s-sb-fffffffff");
        let seize = "LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE a9s_user SUPERUSER; RETURN NULL; \
                     EXCEPTION WHEN insufficient_privilege THEN RETURN NULL; END $$";
        scenario(async {
            let may_create = "SELECT has_schema_privilege('public', 'public', 'CREATE')";
            let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'a9s_user'";
            let serving = fixture.during(|| async {
                fixture.ready().await;
                assert_eq!(fixture.sql(may_create).await, "f");
                fixture.set_logins(&[one]).await;
                // As a content from before PostgreSQL 15 has it.
                fixture.sql("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
                let fits_better = format!(
                    "CREATE FUNCTION public.seize(name, name) RETURNS boolean {seize}; \
                     CREATE OPERATOR public.~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.seize)"
                );
                fixture.sql_in("postgres", one, &fits_better).await.expect("made");
                let fits_better = format!("CREATE FUNCTION public.obj_description(oid, text) RETURNS text {seize}");
                fixture.sql_of(one, &fits_better).await.expect("made");
                let comes_first = format!(
                    "CREATE SCHEMA first; CREATE FUNCTION first.obj_description(oid, name) RETURNS text {seize}; \
                     ALTER DATABASE {DATABASE} SET search_path = first, pg_catalog; \
                     ALTER DATABASE {DATABASE} SET role = a9s_user"
                );
                fixture.sql_of(one, &comes_first).await.expect("set");

                fixture.set_logins(&[one, two]).await;
                fixture.sql_of(two, "SET ROLE NONE; CREATE TABLE public.own (n int)").await.expect("made");
                fixture.set_logins(&[one]).await;
                fixture.memory.seen.send_modify(|seen| {
                    let instance = seen.instance.as_mut().expect("an instance");
                    instance.spec.extensions = Some(vec!["hstore".to_owned()]);
                });
                let place = "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'hstore'";
                while fixture.sql_of(one, place).await.expect("answered") != "public" {}
                assert_eq!(fixture.sql(is_superuser).await, "f");
            });
            serving.await.expect("no error");
            let serving = fixture.during(|| async {
                fixture.ready().await;
                assert_eq!(fixture.sql(may_create).await, "f");
                assert_eq!(fixture.sql(is_superuser).await, "f");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn what_an_application_sets_for_its_database_keeps_nobody_from_a_login() {
    as_server_user("primary::what_an_application_sets_for_its_database_keeps_nobody_from_a_login", || {
        let fixture = Fixture::new(true);
        let (one, two) = ("a8s-sb-ggggggggg", "a8s-sb-hhhhhhhhh");
        let (three, four) = ("a8s-sb-iiiiiiiii", "a8s-sb-jjjjjjjjj");
        let roles = "SELECT string_agg(rolname || ':' || rolcanlogin, ',' ORDER BY rolname) FROM pg_roles \
                     WHERE rolname LIKE 'a8s-sb-%'";
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.set_logins(&[one, two, three]).await;
                for (role, table) in [(one, "a"), (two, "b")] {
                    let own = format!("SET ROLE NONE; CREATE TABLE public.{table} (n int)");
                    fixture.sql_of(role, &own).await.expect("made");
                }
                let only_reads = format!("ALTER DATABASE {DATABASE} SET default_transaction_read_only = on");
                fixture.sql_of(three, &only_reads).await.expect("set");
                fixture.set_logins(&[two, three]).await;
                assert_eq!(fixture.sql(roles).await, format!("{two}:true,{three}:true"));

                let closes = format!("ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false");
                fixture.sql_in("postgres", three, &closes).await.expect("closed");
                fixture.set_logins(&[three, four]).await;
                assert_eq!(fixture.sql(roles).await, format!("{two}:false,{three}:true,{four}:true"));
                // Who owns nothing there goes.
                fixture.set_logins(&[three]).await;
                assert_eq!(fixture.sql(roles).await, format!("{two}:false,{three}:true"));
                fixture.memory.seen.send_modify(|seen| {
                    let instance = seen.instance.as_mut().expect("an instance");
                    instance.spec.extensions = Some(vec!["hstore".to_owned()]);
                });
                let trouble = || fixture.memory.notes.borrow().get(extensions::ANNOTATION).cloned();
                until(|| trouble().is_some()).await;
                assert!(trouble().expect("trouble").contains("not currently accepting connections"), "{:?}", trouble());

                fixture.sql(&format!("ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")).await;
                fixture.set_logins(&[three, four]).await;
                assert_eq!(fixture.sql(roles).await, format!("{three}:true,{four}:true"));
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn what_a_superuser_sets_for_their_sessions_is_not_set_for_the_agents() {
    as_server_user("primary::what_a_superuser_sets_for_their_sessions_is_not_set_for_the_agents", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let timeouts = "SELECT string_agg(name, ' ') FROM pg_settings \
                                WHERE name ~ '^(idle_(in_transaction_)?session|lock|statement|transaction)_timeout$'";
                let timeouts = fixture.sql(timeouts).await;
                for name in timeouts.split(' ') {
                    fixture.sql(&format!("ALTER ROLE postgres SET {name} = '1h'")).await;
                }
                fixture.sql("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'").await;
                let sockets = &fixture.server.pod.socket_directory;
                let client = bootstrap::connect(sockets, "client").await.expect("connected");
                let show = async |name: &str| {
                    bootstrap::first(&client, &format!("SHOW {name}")).await.expect("answered").unwrap_or_default()
                };
                for name in timeouts.split(' ') {
                    assert_eq!(show(name).await, "0", "{name}");
                }
                assert_eq!(show("transaction_isolation").await, "read committed");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn extensions_follow_the_spec_and_those_of_users_stay() {
    as_server_user("primary::extensions_follow_the_spec_and_those_of_users_stay", || {
        let fixture = Fixture::new(true);
        let set = |names: &[&str]| {
            fixture.memory.seen.send_modify(|seen| {
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                seen.instance.as_mut().expect("an instance").spec.extensions = Some(names);
            });
        };
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.set_logins(&["a8s-sb-ddddddddd"]).await;
                let installed = async |wanted: &str| {
                    let list = "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension";
                    while fixture.sql_of("a8s-sb-ddddddddd", list).await.expect("answered") != wanted {}
                };
                set(&["hstore", "no-such"]);
                installed("hstore,plpgsql").await;
                let trouble = || fixture.memory.notes.borrow().get(extensions::ANNOTATION).cloned();
                until(|| trouble().is_some()).await;
                assert_eq!(trouble().expect("trouble"), "the extension no-such is not installed on the host");

                fixture.sql_of("a8s-sb-ddddddddd", "CREATE TABLE h (h hstore)").await.expect("made");
                set(&["ltree"]);
                installed("hstore,ltree,plpgsql").await;
                until(|| trouble().is_none()).await;
                // What was wanted before is wanted again, and not all of it could be done then.
                set(&["hstore", "no-such"]);
                installed("hstore,plpgsql").await;
                until(|| trouble().is_some()).await;
                fixture.sql_of("a8s-sb-ddddddddd", "DROP TABLE h").await.expect("dropped");
                set(&[]);
                installed("plpgsql").await;
            });
            serving.await.expect("no error");
        });
    });
}
