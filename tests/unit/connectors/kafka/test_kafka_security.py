"""How a cluster and its security are described: mistakes show up at once, secrets never."""

import logging
import ssl
import subprocess

import pytest

from streamflow.errors import ConfigError, JobDefinitionError
from streamflow.operators.connectors.kafka.cluster import PASSWORD_VARIABLE, Cluster, KafkaSecurity
from streamflow.operators.connectors.kafka.diagnosis import explain
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.connectors.kafka.source import KafkaSource
from tests.kafka.simulated_client import SimKafka
from tests.kafka.simulated_log import SimLog

LOGIN = {"mechanism": "PLAIN", "username": "ada", "password": "canary"}


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pem")
    new = [
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-days",
        "2",
        "-subj",
        "/CN=x",
    ]
    files = ["-passout", "pass:canary", "-keyout", "x.key", "-out", "x.pem"]
    subprocess.run(["openssl", "req", *new, *files], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "TLS"}, "no Kafka protocol 'TLS'"),
        ({"protocol": "SASL_SSL", **LOGIN, "mechanism": "GSSAPI"}, "no SASL mechanism 'GSSAPI'"),
        (LOGIN, "protocol PLAINTEXT has none"),
        ({"protocol": "SASL_SSL", "username": "ada", "password": "canary"}, "needs a mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "password": "canary"}, "needs a username"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "ada"}, "needs a password"),
        ({"ca_file": "ca.pem"}, "is not encrypted"),
        ({"protocol": "SSL", "key_file": "x.key"}, "without certificate_file"),
        ({"protocol": ["SSL"]}, "no Kafka protocol"),
        ({"protocol": "SSL", "ca_file": 5}, "ca_file is 5"),
        ({"protocol": "SSL", "check_hostname": "no"}, "check_hostname is 'no'"),
        (
            {"protocol": "SASL_PLAINTEXT", **LOGIN, "allow_plaintext_password": "no"},
            "allow_plaintext_password is",
        ),
        ({"protocol": "SASL_SSL", **LOGIN, "username": 5}, "username is 5"),
    ],
)
def test_settings_that_do_not_go_together(settings, message, monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(JobDefinitionError, match=message) as caught:
        KafkaSecurity(**settings)
    assert caught.value.hint
    assert "canary" not in str(caught.value)


def test_files_that_are_not_there_or_are_something_else(tmp_path):
    with pytest.raises(ConfigError, match="ca_file: there is no file"):
        KafkaSecurity(protocol="SSL", ca_file=tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be used"):
        KafkaSecurity(protocol="SSL", ca_file=tmp_path / "ca.pem")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_key_that_is_locked(pem, password):
    files = {"certificate_file": pem / "x.pem", "key_file": pem / "x.key"}
    assert KafkaSecurity(protocol="SSL", **files, key_password="canary").ssl_context()
    with pytest.raises(ConfigError, match="cannot be used"):
        KafkaSecurity(protocol="SSL", **files, key_password=password)


def test_a_password_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "password").write_text("canary\n")
    given = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "ada"}
    from_file = KafkaSecurity(**given, password=f"file:{tmp_path / 'password'}")
    monkeypatch.setenv(PASSWORD_VARIABLE, "canary")
    for security in (from_file, KafkaSecurity(**given)):
        assert security.aiokafka()["sasl_plain_password"] == "canary"
        assert security.librdkafka()["sasl.password"] == "canary"
    # What is given wins, and without a login nothing is taken from the environment.
    assert KafkaSecurity(**given, password="own").aiokafka()["sasl_plain_password"] == "own"
    assert KafkaSecurity().password is None


def test_no_secret_in_a_description(pem):
    security = KafkaSecurity(
        protocol="SASL_SSL",
        **LOGIN,
        certificate_file=pem / "x.pem",
        key_file=pem / "x.key",
        key_password="canary",
    )
    assert "canary" not in f"{security} {security!r} {Cluster('localhost:9092', security)!r}"


def test_tls_is_1_2_at_least_and_checks_certificates():
    context = KafkaSecurity(protocol="SSL").ssl_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    unchecked = KafkaSecurity(protocol="SSL", check_hostname=False)
    assert not unchecked.ssl_context().check_hostname
    assert unchecked.ssl_context().verify_mode == ssl.CERT_REQUIRED
    assert unchecked.librdkafka()["ssl.endpoint.identification.algorithm"] == "none"
    assert KafkaSecurity(protocol="SSL").librdkafka()["ssl.endpoint.identification.algorithm"] == "https"


@pytest.mark.parametrize(
    "text", ["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:70000", "http://kafka:9092", "a:1,"]
)
def test_what_is_no_address(text):
    with pytest.raises(JobDefinitionError, match="is not the address"):
        Cluster(text)


def test_addresses():
    cluster = Cluster(" kafka-1:9092,[::1]:9093 ")
    assert cluster.addresses == (("kafka-1", 9092), ("::1", 9093))
    assert cluster.bootstrap_servers == "kafka-1:9092,[::1]:9093"
    assert not cluster.loopback
    assert Cluster("localhost:1,127.0.0.2:2,[::1]:3").loopback


def test_a_password_in_clear_text_stays_on_this_machine():
    security = KafkaSecurity(protocol="SASL_PLAINTEXT", **LOGIN)
    Cluster("localhost:9092", security)
    with pytest.raises(JobDefinitionError, match="in clear text"):
        Cluster("localhost:9092,kafka:9092", security)
    Cluster("kafka:9092", KafkaSecurity(protocol="SASL_PLAINTEXT", **LOGIN, allow_plaintext_password=True))
    Cluster("kafka:9092", KafkaSecurity(protocol="SASL_PLAINTEXT", **{**LOGIN, "mechanism": "SCRAM-SHA-256"}))


def test_a_warning_where_others_could_read_along(caplog):
    caplog.set_level(logging.WARNING, "streamflow.kafka")
    Cluster("localhost:9092").client()
    Cluster("kafka:9093", KafkaSecurity(protocol="SSL")).client()
    assert not caplog.records
    Cluster("kafka:9092").client()
    assert [record.told for record in caplog.records] == [{"brokers": "kafka:9092"}]


def test_clients():
    with pytest.raises(JobDefinitionError, match="no Kafka client 'kafka-python'"):
        Cluster("localhost:9092").client("kafka-python")
    given = SimKafka(SimLog())
    assert Cluster("localhost:9092").client(given) is given


def test_a_client_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(
        "streamflow.operators.connectors.kafka.cluster.find_spec",
        lambda name: None if "confluent" in name else name,
    )
    with pytest.raises(ConfigError, match=r"streamflow-engine\[confluent\]"):
        Cluster("localhost:9092").client("confluent")


def test_reasons_that_may_pass_and_reasons_that_do_not():
    cluster = Cluster("localhost:9092")
    assert not explain(cluster, ConnectionRefusedError()).final
    assert not explain(cluster, TimeoutError()).final
    assert explain(cluster, ssl.SSLError(1, "unknown")).final


def test_addresses_may_be_a_list_and_a_single_one():
    assert Cluster(["kafka-1:9092", "kafka-2:9093,kafka-3:9092"]).bootstrap_servers == (
        "kafka-1:9092,kafka-2:9093,kafka-3:9092"
    )
    source = KafkaSource("t", bootstrap_servers=["localhost:1", "localhost:2"])
    assert source.bootstrap_servers == "localhost:1,localhost:2"
    assert KafkaSink("t", bootstrap_servers=["localhost:1"]).bootstrap_servers == "localhost:1"


@pytest.mark.parametrize("given", [[], "", None, 9092, [9092], b"localhost:9092", {"localhost": 9092}])
def test_what_is_no_address_is_refused(given):
    with pytest.raises(JobDefinitionError, match=r"bootstrap_servers is of the type|is not the address"):
        KafkaSource("t", bootstrap_servers=given)


@pytest.mark.parametrize("given", ["ada:s3cret@kafka:9092", ["kafka:9092", "ada:s3cret@kafka:9092"]])
@pytest.mark.parametrize("kind", [KafkaSource, KafkaSink])
def test_a_password_in_an_address_is_refused_and_not_shown(given, kind):
    with pytest.raises(JobDefinitionError, match=r"holds a user: \*\*\*@kafka:9092") as caught:
        kind("t", bootstrap_servers=given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "given", ["kafka:9092?password=s3cret", "kafka://kafka:9092?a=b&password=s3cret#s3cret"]
)
def test_what_stands_behind_an_address_is_not_shown(given):
    with pytest.raises(JobDefinitionError, match="kafka:9092…' is not the address") as caught:
        Cluster(given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("half", ["\ud800", "\0"])
def test_a_password_that_no_client_could_send_is_refused_and_not_shown(half, tmp_path):
    """An environment variable's bytes that are not UTF-8 become halves of surrogate pairs."""
    asked = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-256", "username": "ada"}
    with pytest.raises(ConfigError, match="password is not valid UTF-8") as caught:
        KafkaSecurity(password=f"s3cret{half}", **asked)
    assert "s3cret" not in str(caught.value)
    (tmp_path / "password").write_bytes(b"s3cret\0")
    with pytest.raises(ConfigError, match="has a NUL in it"):
        KafkaSecurity(password=f"file:{tmp_path / 'password'}", **asked)


def test_a_listener_that_asks_for_no_login_is_not_a_login_that_is_refused():
    from aiokafka.errors import IllegalSaslStateError

    security = KafkaSecurity(
        protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-256", username="ada", password="x"
    )
    trouble = explain(Cluster("localhost:9092", security), IllegalSaslStateError())
    assert trouble.final
    assert "asks for no login" in trouble.message
    assert 'protocol="PLAINTEXT"' in trouble.hint
