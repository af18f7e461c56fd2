"""A Kafka that asks who is there: TLS, SCRAM, PLAIN, OAUTHBEARER, and ACLs that are enforced.

One broker with a listener for each way in; certificates by openssl; tokens signed by a small server
of their own, whose keys the broker fetches, as an identity provider's.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka_broker import QUIET, give_up

from services.broker.broker import Broker, free_ports

USER, PASSWORD = "shop", "a secret of the shop"
WAYS = ("ssl", "scram", "plain", "oauth")
_SECURITY = "org.apache.kafka.common.security"


class SecuredKafka:
    """The broker, and the settings with which a client comes in each way."""

    def __init__(self, directory: Path):
        self.certificates = Certificates(directory)
        self.tokens = TokenServer(directory)
        ports = dict(zip(WAYS, free_ports(len(WAYS)), strict=True))
        self._urls = {way: f"kafka://127.0.0.1:{port}" for way, port in ports.items()}
        with self._java_options():
            self.broker = Broker(directory / "kafka", self._properties(ports))
        self.admin = AdminClient({"bootstrap.servers": self.address, **QUIET})
        self._add_user()

    def _properties(self, ports: Mapping[str, int]) -> dict[str, str]:
        listeners = "".join(f",{way.upper()}://127.0.0.1:{port}" for way, port in ports.items())
        keys = self.certificates
        return {
            "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
            + listeners,
            "advertised.listeners": "PLAINTEXT://127.0.0.1:{port}" + listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,"
            "SCRAM:SASL_SSL,PLAIN:SASL_SSL,OAUTH:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keys.broker),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(keys.authority),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": (
                f"{_SECURITY}.scram.ScramLoginModule required;"
            ),
            "listener.name.plain.plain.sasl.jaas.config": (
                f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            "listener.name.oauth.oauthbearer.sasl.jaas.config": (
                f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": (
                f"{_SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "listener.name.oauth.sasl.oauthbearer.jwks.endpoint.url": f"{self.tokens.url}/keys",
            "listener.name.oauth.sasl.oauthbearer.expected.audience": "kafka",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "broker.session.timeout.ms": "6000",  # so long a killed one waits to be let in again
            "super.users": f"User:ANONYMOUS;User:CN={USER}",
            "allow.everyone.if.no.acl.found": "false",
        }

    @contextmanager
    def _java_options(self) -> Iterator[None]:
        """Kafka asks no address for keys that it was not told about."""
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.url}/keys"
        os.environ["JDK_JAVA_OPTIONS"] = allowed
        try:
            yield
        finally:
            del os.environ["JDK_JAVA_OPTIONS"]

    def start(self) -> None:
        """After the broker was killed."""
        with self._java_options():
            self.broker.start()

    def _add_user(self) -> None:
        credential = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for done in self.admin.alter_user_scram_credentials([credential]).values():
            done.result()

    @property
    def address(self) -> str:
        return self.broker.url.removeprefix("kafka://")

    def url(self, way: str) -> str:
        return self._urls[way]

    def settings(self, way: str) -> dict[str, str]:
        """`[kafka]` of somebody who may come in."""
        trusting = {"ssl.ca.location": str(self.certificates.authority)}
        if way == "ssl":
            return {
                **trusting,
                "security.protocol": "ssl",
                "ssl.certificate.location": str(self.certificates.client),
                "ssl.key.location": str(self.certificates.client),
            }
        if way == "oauth":
            return {
                **trusting,
                "security.protocol": "sasl_ssl",
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": USER,
                "sasl.oauthbearer.client.secret": PASSWORD,
                "sasl.oauthbearer.token.endpoint.url": f"{self.tokens.url}/token",
            }
        return {
            **trusting,
            "security.protocol": "sasl_ssl",
            "sasl.mechanism": {"scram": "SCRAM-SHA-512", "plain": "PLAIN"}[way],
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }

    @contextmanager
    def allowed(self, *grants: tuple[str, str, str]) -> Iterator[None]:
        """The user may do this, and nothing else, meanwhile."""
        bindings = [_binding(*grant) for grant in grants]
        for done in self.admin.create_acls(bindings).values():
            done.result()
        time.sleep(0.5)  # until the broker goes by them
        try:
            yield
        finally:
            for removed in self.admin.delete_acls([_filter(*grant) for grant in grants]).values():
                removed.result()

    def close(self) -> None:
        self.broker.kill()
        self.tokens.close()


def _binding(kind: str, name: str, operation: str) -> AclBinding:
    return AclBinding(*_pattern(kind, name, operation))


def _filter(kind: str, name: str, operation: str) -> AclBindingFilter:
    return AclBindingFilter(*_pattern(kind, name, operation))


def _pattern(kind: str, name: str, operation: str) -> tuple[Any, ...]:
    return (
        ResourceType[kind],
        name,
        ResourcePatternType.PREFIXED if name.endswith(".") else ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


class Certificates:
    """An authority, what it signed for the broker and a client, and one that nobody trusts."""

    def __init__(self, directory: Path):
        if shutil.which("openssl") is None:
            give_up("needs openssl to make certificates")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.authority = self._make_authority("authority")
        self.stranger = self._make_authority("stranger")
        self.broker = self._sign("broker", "/CN=broker", "IP:127.0.0.1,DNS:localhost")
        self.client = self._sign("client", f"/CN={USER}", "DNS:client")

    def _make_authority(self, name: str) -> Path:
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"),
        )
        return self._directory / f"{name}.pem"

    def _sign(self, name: str, subject: str, alternatives: str) -> Path:
        """Key and certificate in one file."""
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        (self._directory / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-days", "2", "-CAcreateserial"),
            *("-CA", "authority.pem", "-CAkey", "authority.key"),
            *("-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )
        both = self._directory / f"{name}.pem"
        both.write_text("".join((both.with_suffix(s)).read_text() for s in (".key", ".crt")))
        return both

    def _openssl(self, *arguments: str) -> None:
        command = ["openssl", *arguments]
        done = subprocess.run(command, cwd=self._directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TokenServer:
    """Gives whoever knows the secret a token for Kafka, and the broker the key to check it."""

    def __init__(self, directory: Path):
        self._key = directory / "tokens.key"
        self._run("genpkey", "-algorithm", "RSA", "-out", str(self._key))
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, tokens.keys())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if self.headers.get("Authorization") == f"Basic {known}":
                    self._answer(200, {"access_token": tokens.token(), "expires_in": 300})
                else:
                    self._answer(401, {"error": "invalid_client"})

            def _answer(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def keys(self) -> dict[str, object]:
        modulus = self._run("rsa", "-in", str(self._key), "-noout", "-modulus").decode()
        number = _base64(bytes.fromhex(modulus.strip().partition("=")[2]))
        key = {"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig", "n": number, "e": "AQAB"}
        return {"keys": [key]}

    def token(self) -> str:
        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        claims = {"sub": USER, "aud": "kafka", "scope": "kafka", "iat": now, "exp": now + 300}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = self._run("dgst", "-sha256", "-sign", str(self._key), stdin=text.encode())
        return f"{text}.{_base64(signature)}"

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(
            ["openssl", *arguments], input=stdin, capture_output=True, check=True
        ).stdout

    def close(self) -> None:
        self._server.shutdown()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
