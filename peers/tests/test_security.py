"""Clients that say who they are, over SASL and TLS, and Kafka's own tools for users and access control lists."""

import json
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from harness import cache, tokens, tools
from harness.fleet import Fleet
from harness.flow import Flow
from harness.waiting import wait_for

CERTIFICATES = Path(__file__).parents[2] / "broker" / "tests" / "it" / "certificates"
ROOT, ANN, BOB = ("admin", "of-the-admin"), ("ann", "of-ann"), ("bob", "of-bob")
AUTH = {"broker.auth.super-users": '["admin"]', "broker.auth.mechanisms": '["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]'}


def _started(folder: Path, settings: dict):
    fleet = Fleet(folder, settings=AUTH | settings, one_region=True)
    fleet.start()
    for user in (ROOT, ANN):
        fleet.set_password(*user)
    return fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    made = _started(tmp_path_factory.mktemp("sasl"), {"broker.auth.plain-without-tls": "true"})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def tls_fleet(tmp_path_factory):
    files = {"broker.tls.certificate": CERTIFICATES / "server.pem", "broker.tls.key": CERTIFICATES / "server.key"}
    made = _started(tmp_path_factory.mktemp("tls"), {key: f'"{path}"' for key, path in files.items()})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def tokens_fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    jwks = folder / "issuer.json"
    jwks.write_text(tokens.JWKS)
    rules = {"jwks": f'["{jwks}"]', "issuer": f'"{tokens.ISSUER}"', "audience": f'["{tokens.AUDIENCE}"]', "without-tls": "true"}
    settings = {f"broker.auth.oauthbearer.{key}": value for key, value in rules.items()}
    made = _started(folder, settings | {"broker.auth.mechanisms": '["SCRAM-SHA-512", "OAUTHBEARER"]'})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def unsecured_fleet(tmp_path_factory):
    settings = {"broker.auth.oauthbearer.unsecured-tokens": "true", "broker.auth.mechanisms": '["SCRAM-SHA-512", "OAUTHBEARER"]'}
    made = _started(tmp_path_factory.mktemp("unsecured"), settings)
    yield made
    made.stop()


def _conf(fleet: Fleet, user: tuple[str, str], mechanism: str = "SCRAM-SHA-512", tls: bool = False) -> dict:
    conf = {"bootstrap.servers": fleet.bootstrap, "security.protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT"}
    conf |= {"sasl.mechanism": mechanism, "sasl.username": user[0], "sasl.password": user[1], "socket.timeout.ms": 10000}
    return conf | ({"ssl.ca.location": str(CERTIFICATES / "ca.pem")} if tls else {})


def _created(fleet: Fleet, name: str, **conf) -> None:
    admin = AdminClient(_conf(fleet, ROOT, **conf))
    # The password set a moment ago may not be in this broker's view yet.
    wait_for(lambda: _listed(admin), "the admin to be let in", 30)
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)


def _listed(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


def _produced(fleet: Fleet, user: tuple[str, str], topic: str, **conf):
    """The error of one record's delivery, None for none."""
    errors = []
    producer = Producer(_conf(fleet, user, **conf) | {"message.timeout.ms": 15000})
    producer.produce(topic, b"value", on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert len(errors) == 1
    return errors[0]


def _consumed(fleet: Fleet, user: tuple[str, str], topic: str, **conf) -> bytes:
    consumer = Consumer(_conf(fleet, user, **conf) | {"group.id": f"of-{topic}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        message = wait_for(lambda: consumer.poll(1.0), "a record", 45)
        assert message.error() is None, message.error()
        return message.value()
    finally:
        consumer.close()


def _admin_file(fleet: Fleet, user: tuple[str, str] = ROOT) -> Path:
    file = fleet.folder / f"{user[0]}.properties"
    login = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{user[0]}" password="{user[1]}";'
    file.write_text(f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={login}\n")
    return file


def _tool(fleet: Fleet, tool: str, *arguments) -> str:
    return tools.run(tool, "--bootstrap-server", fleet.bootstrap, "--command-config", _admin_file(fleet), *arguments)


def test_librdkafka_is_let_in_and_does_what_kafkas_tool_allowed(fleet):
    _created(fleet, "orders")
    refused = _produced(fleet, ANN, "orders")
    assert refused is not None and refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    for rights in (("--producer",), ("--consumer", "--group", "of-orders")):
        _tool(fleet, tools.ACLS, "--add", "--allow-principal", "User:ann", *rights, "--topic", "orders")
    listed = _tool(fleet, tools.ACLS, "--list", "--topic", "orders")
    assert "principal=User:ann" in listed and "operation=WRITE" in listed and "operation=READ" in listed
    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
        assert _produced(fleet, ANN, "orders", mechanism=mechanism) is None
    assert _consumed(fleet, ANN, "orders") == b"value"
    _tool(fleet, tools.ACLS, "--remove", "--force", "--allow-principal", "User:ann", "--topic", "orders", "--operation", "Write")
    refused = _produced(fleet, ANN, "orders")
    assert refused is not None and refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_wrong_password_is_an_authentication_error(fleet):
    seen = []
    admin = AdminClient(_conf(fleet, ("ann", "guessed")) | {"error_cb": seen.append})

    def refused():
        assert not _listed(admin)
        # Errors are handed out here alone.
        admin.poll(0.1)
        return any(error.code() == KafkaError._AUTHENTICATION for error in seen)

    wait_for(refused, "the refusal", 30)


def test_kafkas_tool_gives_a_user_a_password(fleet):
    _created(fleet, "users")
    for change in ("--add-config", "SCRAM-SHA-512=[iterations=8192,password=of-bob]"), ("--add-config", "SCRAM-SHA-256=[password=of-bob]"):
        _tool(fleet, tools.CONFIGS, "--alter", "--entity-type", "users", "--entity-name", "bob", *change)
    described = _tool(fleet, tools.CONFIGS, "--describe", "--entity-type", "users", "--entity-name", "bob")
    assert "SCRAM-SHA-512=iterations=8192" in described and "SCRAM-SHA-256=iterations=4096" in described
    fleet.verb("acl", "add", "bob", "write", "topic", "use", "--prefix")
    assert "User:bob" in fleet.verb("acl", "list") and "bob" in fleet.verb("user", "list")
    wait_for(lambda: _produced(fleet, BOB, "users") is None, "the entry", 30)
    _tool(fleet, tools.CONFIGS, "--alter", "--entity-type", "users", "--entity-name", "bob", "--delete-config", "SCRAM-SHA-512,SCRAM-SHA-256")
    assert not _listed(AdminClient(_conf(fleet, BOB)))


def test_kafka_python_is_let_in(fleet):
    from kafka import KafkaProducer

    _created(fleet, "from-python")
    fleet.verb("acl", "add", "ann", "write", "topic", "from-python")
    conf = {"security_protocol": "SASL_PLAINTEXT", "sasl_plain_username": ANN[0], "sasl_plain_password": ANN[1]}
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"):
        producer = KafkaProducer(bootstrap_servers=fleet.bootstrap, sasl_mechanism=mechanism, enable_idempotence=False, **conf)
        assert producer.send("from-python", b"value").get(timeout=30).topic == "from-python"
        producer.close()


def test_over_tls_passwords_may_go_as_they_are(tls_fleet):
    _created(tls_fleet, "secret", tls=True)
    tls_fleet.verb("acl", "add", "ann", "all", "topic", "secret")
    tls_fleet.verb("acl", "add", "ann", "read", "group", "of-secret")
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        wait_for(lambda: _produced(tls_fleet, ANN, "secret", mechanism=mechanism, tls=True) is None, "the entry", 30)
    assert _consumed(tls_fleet, ANN, "secret", tls=True) == b"value"
    assert not _listed(AdminClient(_conf(tls_fleet, ANN) | {"security.protocol": "PLAINTEXT"}))


def _properties(fleet: Fleet, mechanism: str = "SCRAM-SHA-512", tls: bool = False) -> Path:
    """librdkafka's settings, as a file for our own client."""
    file = fleet.folder / f"{mechanism}-{tls}.properties"
    own = {key: value for key, value in _conf(fleet, ROOT, mechanism, tls).items() if key.startswith(("security", "sasl", "ssl"))}
    file.write_text("".join(f"{key}={value}\n" for key, value in own.items()))
    return file


def _produced_with(fleet: Fleet, token, topic: str, seen: list) -> list:
    """What became of one record, sent by who shows what `token` gives."""
    conf = {"bootstrap.servers": fleet.bootstrap, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    producer = Producer(conf | {"oauth_cb": lambda _: token(), "error_cb": seen.append, "message.timeout.ms": 10000})
    errors = []
    producer.produce(topic, b"value", on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    return errors


def test_librdkafka_is_let_in_with_a_signed_token_and_no_other(tokens_fleet):
    _created(tokens_fleet, "tokens")
    assert _produced(tokens_fleet, ROOT, "tokens") is None
    tokens_fleet.verb("acl", "add", "ann", "all", "topic", "tokens")
    seen = []
    wait_for(lambda: _produced_with(tokens_fleet, lambda: tokens.signed("ann"), "tokens", seen) == [None], "the entry", 60)
    extended = (*tokens.signed("ann"), "ann", {"traceId": "1"})
    assert _produced_with(tokens_fleet, lambda: extended, "tokens", seen) == [None]
    assert not any(error.code() == KafkaError._AUTHENTICATION for error in seen), seen
    # Who bob is, is known; what he may do is not in the list.
    refused = _produced_with(tokens_fleet, lambda: tokens.signed("bob"), "tokens", seen)
    assert [error.code() for error in refused] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    for claims in ({"aud": "another"}, {"iss": "https://another.example"}, {"exp": 1}):
        seen = []
        errors = _produced_with(tokens_fleet, lambda: tokens.signed("ann", **claims), "tokens", seen)
        assert errors and errors[0] is not None, claims
        assert any(error.code() == KafkaError._AUTHENTICATION for error in seen), (claims, seen)


def test_kafkas_tools_are_let_in_with_tokens_that_nobody_signed_where_that_is_allowed(unsecured_fleet, tokens_fleet):
    module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
    login = f'{module} required unsecuredLoginStringClaim_sub="{ROOT[0]}" unsecuredLoginExtension_traceId="1";'
    file = unsecured_fleet.folder / "unsecured.properties"
    file.write_text(f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.jaas.config={login}\n")
    create = ("--command-config", file, "--create", "--topic", "unsecured", "--partitions", "1", "--replication-factor", "1")
    tools.run(tools.TOPICS, "--bootstrap-server", unsecured_fleet.bootstrap, *create)
    assert _produced(unsecured_fleet, ROOT, "unsecured") is None
    with pytest.raises(AssertionError, match="(?i)authentication|invalid_token"):
        tools.run(tools.TOPICS, "--bootstrap-server", tokens_fleet.bootstrap, *create)


def test_a_translated_flow_is_let_in_on_both_sides(tls_fleet, fleet, tmp_path):
    _created(tls_fleet, "flow", tls=True)
    assert _produced(tls_fleet, ROOT, "flow", tls=True) is None
    logins = (_properties(tls_fleet, tls=True), _properties(fleet))
    with Flow(tmp_path, tls_fleet.bootstrap, fleet.bootstrap, "flow", "of-flow", logins):
        # The flow makes the topic, which a consumer that came before it would not find for a while.
        wait_for(lambda: "flow" in AdminClient(_conf(fleet, ROOT)).list_topics(timeout=5).topics, "the topic", 60)
        assert _consumed(fleet, ROOT, "flow") == b"value"


def _verb(fleet: Fleet, file: Path, *arguments: str, **more) -> subprocess.CompletedProcess:
    command = [str(cache.whimbrel()), *arguments, "--command-config", str(file), "--fleet", str(fleet.data)]
    return subprocess.run(command, text=True, timeout=90, capture_output=True, **more)


def test_our_own_verbs_show_the_token_that_a_file_has(tokens_fleet):
    _created(tokens_fleet, "own-tokens")
    tokens_fleet.verb("acl", "add", "ann", "all", "topic", "own-tokens")
    token = tokens_fleet.folder / "ann.jwt"
    file = tokens_fleet.folder / "ann.properties"
    login = f"sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file://{token}\n"
    file.write_text(f"security.protocol=SASL_PLAINTEXT\n{login}")

    def written() -> subprocess.CompletedProcess:
        return _verb(tokens_fleet, file, "topic", "produce", "own-tokens", input="line\n")

    token.write_text(tokens.signed("ann")[0] + "\n")
    wait_for(lambda: written().returncode == 0, "the entry", 60)
    read = _verb(tokens_fleet, file, "topic", "consume", "own-tokens", "--from-beginning", "--timeout", "60s")
    assert read.returncode == 0 and read.stdout.startswith("line\n"), read.stderr
    # The next login shows what the file has then.
    token.write_text(tokens.signed("ann", exp=1)[0])
    refused = written()
    assert refused.returncode != 0 and "invalid_token" in refused.stderr, refused.stderr


def test_our_own_verbs_are_let_in_over_tls(tls_fleet):
    _created(tls_fleet, "verbs", tls=True)
    lines = "".join(f"line {number}\n" for number in range(500))

    def verb(file: Path, *arguments: str, **more) -> subprocess.CompletedProcess:
        return _verb(tls_fleet, file, *arguments, **more)

    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
        file = _properties(tls_fleet, mechanism, tls=True)
        written = verb(file, "topic", "produce", "verbs", input=lines)
        assert written.returncode == 0, written.stderr
    read = verb(file, "topic", "consume", "verbs", "--from-beginning", "--timeout", "60s")
    assert (read.returncode, read.stdout) == (0, 3 * lines), read.stderr
    export = ("tier", "export", "verbs", "--partition", "0", "--file", str(tls_fleet.folder / "verbs.parquet"), "-o", "json")
    written = verb(file, *export)
    assert written.returncode == 0 and json.loads(written.stdout)["records"] > 0, written.stderr
    file.write_text(file.read_text().replace(ROOT[1], "wrong"))
    refused = verb(file, "topic", "consume", "verbs", "--from-beginning", "--timeout", "60s")
    assert refused.returncode != 0 and "not let in" in refused.stderr, refused.stderr
    file.write_text("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI\nsasl.username=a\nsasl.password=b\n")
    wrong = verb(file, "topic", "consume", "verbs")
    assert wrong.returncode == 78 and "sasl.mechanism" in wrong.stderr, wrong.stderr
