"""How a cluster and its security are described: mistakes show up at once, secrets never."""

import logging
import ssl
import subprocess

import pytest

from streamflow.errors import ConfigError, JobDefinitionError
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.diagnosis import explain
from streamflow.operators.connectors.kafka.security import PASSWORD_VARIABLE, KafkaSecurity

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
    with pytest.raises(ConfigError, match="no Kafka client 'kafka-python'"):
        Cluster("localhost:9092").client("kafka-python")
    given = object()
    assert Cluster("localhost:9092").client(given) is given


def test_a_client_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(
        "streamflow.operators.connectors.kafka.cluster.find_spec",
        lambda name: None if "confluent" in name else name,
    )
    with pytest.raises(ConfigError, match=r"streamflow\[confluent\]"):
        Cluster("localhost:9092").client("confluent")


def test_reasons_that_may_pass_and_reasons_that_do_not():
    cluster = Cluster("localhost:9092")
    assert not explain(cluster, ConnectionRefusedError()).final
    assert not explain(cluster, TimeoutError()).final
    assert explain(cluster, ssl.SSLError(1, "unknown")).final
