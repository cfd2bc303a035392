"""TLS and logins against a broker that insists on them; what goes wrong is said within seconds, secrets never."""

import asyncio
import logging
import subprocess
import traceback

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from deploy.kafka.jars import why_no_java
from deploy.kafka.local_broker import LocalBroker, free_port
from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster, KafkaSecurity
from tests.kafka.topics import Topics
from tests.kafka.worlds import drain, metadata, reader, records, writer

# A connection that was refused is still being closed when the test's event loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECRET = "canary-5f2c9a"
WRONG = "canary-wrong-77e1"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder, name):
    subject = ["-subj", f"/CN={name}", "-days", "2", "-nodes"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    openssl(folder, "req", "-x509", *curve, *subject, "-keyout", f"{name}.key", "-out", f"{name}.pem")


def certificate(folder, name, *, signed_by, names, password=None):
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    lock = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    openssl(
        folder, "req", *curve, *lock, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
    )
    (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
    openssl(
        folder,
        *("x509", "-req", "-days", "2", "-in", f"{name}.csr", "-extfile", f"{name}.ext"),
        *("-CA", f"{signed_by}.pem", "-CAkey", f"{signed_by}.key", "-CAcreateserial", "-out", f"{name}.pem"),
    )


class SafeBroker:
    """One broker; `SSL` asks for a certificate, the SASL_… listeners for a login. Its certificate is for 127.0.0.1,
    not for localhost."""

    def __init__(self, folder):
        self.folder = folder
        self.ports = {name: free_port() for name in ("SSL", "SASL_SSL", "SASL_PLAINTEXT")}
        authority(folder, "ca")
        authority(folder, "stranger")
        certificate(folder, "broker", signed_by="ca", names="IP:127.0.0.1")
        certificate(folder, "client", signed_by="ca", names="DNS:client", password=SECRET)
        store = (folder / "broker.key").read_text() + (folder / "broker.pem").read_text()
        (folder / "store.pem").write_text(store)
        properties = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "store.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(folder / "ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        }
        modules = "org.apache.kafka.common.security"
        for listener in ("sasl_ssl", "sasl_plaintext"):
            properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
                f'{modules}.plain.PlainLoginModule required user_ada="{SECRET}";'
            )
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                properties[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = (
                    f"{modules}.scram.ScramLoginModule required;"
                )
        self.local = LocalBroker(properties=properties, listeners=self.ports)

    def add_users(self):
        admin = AdminClient({"bootstrap.servers": self.local.bootstrap})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            info = ScramCredentialInfo(mechanism, 4096)
            user = UserScramCredentialUpsertion("ada", info, SECRET.encode())
            for done in admin.alter_user_scram_credentials([user]).values():
                done.result(30)

    def address(self, listener, host="127.0.0.1"):
        return f"{host}:{self.ports.get(listener, self.local.port)}"


class SafeWorld:
    def __init__(self, client):
        self.client = client


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    reason = why_no_java()
    if reason is not None:
        pytest.skip(f"a broker with TLS and logins is started from Kafka's jars: {reason}")
    safe = SafeBroker(tmp_path_factory.mktemp("certificates"))
    with safe.local:
        safe.add_users()
        yield safe


@pytest.fixture(params=["aiokafka", "confluent"])
def kind(request):
    return request.param


def tls(broker, **changed):
    files = {
        "ca_file": broker.folder / "ca.pem",
        "certificate_file": broker.folder / "client.pem",
        "key_file": broker.folder / "client.key",
        "key_password": SECRET,
    }
    return KafkaSecurity(protocol="SSL", **{**files, **changed})


def login(broker, mechanism="SCRAM-SHA-512", protocol="SASL_SSL", **changed):
    settings = {"username": "ada", "password": SECRET}
    if protocol == "SASL_SSL":
        settings["ca_file"] = broker.folder / "ca.pem"
    return KafkaSecurity(protocol=protocol, mechanism=mechanism, **{**settings, **changed})


def goes_through(world):
    async def work():
        async with metadata(world) as about, writer(world) as out, reader(world) as log:
            topic = Topics.name()
            await about.create_topic(topic, partitions=1)
            await out.write(records(TopicPartition(topic, 0), b"v"))
            await out.flush()
            await log.add(TopicPartition(topic, 0), 0)
            assert await drain(log, TopicPartition(topic, 0), 1) == [b"v"]

    asyncio.run(work())


def fails(world, match):
    """The error of starting, for a reader and for look-ups."""

    async def one(made):
        with pytest.raises(SourceError, match=match) as caught:
            await asyncio.wait_for(made.start(), 20)
        await made.close()
        assert caught.value.hint
        return "".join(traceback.format_exception(caught.value))

    async def work():
        both = world.client.metadata(client_id="test"), world.client.reader(client_id="test")
        return await asyncio.gather(*map(one, both))

    return "".join(asyncio.run(work()))


def test_a_certificate_on_both_sides(broker, kind):
    goes_through(SafeWorld(Cluster(broker.address("SSL"), tls(broker)).client(kind)))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_login_through_tls(broker, kind, mechanism):
    goes_through(SafeWorld(Cluster(broker.address("SASL_SSL"), login(broker, mechanism)).client(kind)))


def test_a_login_without_tls(broker, kind):
    security = login(broker, "SCRAM-SHA-256", "SASL_PLAINTEXT")
    goes_through(SafeWorld(Cluster(broker.address("SASL_PLAINTEXT"), security).client(kind)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password(broker, kind, mechanism):
    security = login(broker, mechanism, password=WRONG)
    client = Cluster(broker.address("SASL_SSL"), security).client(kind)
    fails(SafeWorld(client), "refuses the login of 'ada'")


def test_a_broker_signed_by_a_stranger(broker, kind):
    security = login(broker, ca_file=broker.folder / "stranger.pem")
    fails(SafeWorld(Cluster(broker.address("SASL_SSL"), security).client(kind)), "is not trusted.*ca_file=")


def test_a_certificate_for_another_host(broker, kind):
    address = broker.address("SASL_SSL", "localhost")
    fails(SafeWorld(Cluster(address, login(broker)).client(kind)), "for another host")
    goes_through(SafeWorld(Cluster(address, login(broker, check_hostname=False)).client(kind)))


def test_no_certificate_where_one_is_asked_for(broker, kind):
    security = tls(broker, certificate_file=None, key_file=None, key_password=None)
    fails(SafeWorld(Cluster(broker.address("SSL"), security).client(kind)), "certificate_file=")


@pytest.mark.parametrize("listener", ["SSL", "SASL_SSL"])
def test_clear_text_to_a_port_with_tls(broker, kind, listener):
    fails(SafeWorld(Cluster(broker.address(listener)).client(kind)), "speaks TLS only")


def test_tls_to_a_port_without(broker, kind):
    fails(SafeWorld(Cluster(broker.address("PLAINTEXT"), login(broker)).client(kind)), "does not speak TLS")


def test_no_login_where_one_is_asked_for(broker, kind):
    fails(SafeWorld(Cluster(broker.address("SASL_PLAINTEXT")).client(kind)), "asks for a login")


def test_a_mechanism_the_broker_does_not_take(kind):
    # Only what the listener offers: another broker would be needed to test more than the words.
    from aiokafka.errors import UnsupportedSaslMechanismError

    from streamflow.operators.connectors.kafka.diagnosis import explain

    cluster = Cluster(
        "localhost:9092",
        KafkaSecurity(protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="ada", password=SECRET),
    )
    trouble = explain(cluster, UnsupportedSaslMechanismError("no"))
    assert trouble.final
    assert "does not take the login mechanism PLAIN" in trouble.message


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_no_secret_in_any_log_error_or_description(broker, kind, mechanism, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    right = Cluster(broker.address("SASL_SSL"), login(broker, mechanism))
    wrong = Cluster(broker.address("SASL_SSL"), login(broker, mechanism, password=WRONG))
    goes_through(SafeWorld(right.client(kind)))
    told = fails(SafeWorld(wrong.client(kind)), "refuses the login")
    keyed = tls(broker)
    goes_through(SafeWorld(Cluster(broker.address("SSL"), keyed).client(kind)))
    for each in (right, wrong, keyed):
        told += repr(each) + str(each)
    out, err = capfd.readouterr()
    told += caplog.text + out + err + "".join(str(vars(record)) for record in caplog.records)
    assert "aiokafka" in told or kind == "confluent"
    for secret in (SECRET, WRONG):
        assert secret not in told
        assert repr(secret.encode())[2:-1] not in told
