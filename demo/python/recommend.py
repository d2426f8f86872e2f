"""The fleet's Python service: FastAPI behind mTLS, tokens checked, telemetry by the files that the contract renders."""

import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["FLEET_TELEMETRY"])

import threadline_telemetry as telemetry  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI, Request  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from opentelemetry._logs import SeverityNumber  # noqa: E402

FOLDER = Path(os.environ["FLEET_FOLDER"])
SECRET = (FOLDER / "tokens.key").read_bytes()
telemetry.setup()
app = FastAPI()


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(token):
    """The claims of a good token, else why it is refused."""
    if not token:
        return None, "missing"
    try:
        head, claims, tag = token.split(".")
        signed = hmac.new(SECRET, f"{head}.{claims}".encode(), hashlib.sha256).digest()
        tag, claims = decode(tag), json.loads(decode(claims))
    except ValueError:
        return None, "malformed"
    if not hmac.compare_digest(signed, tag):
        return None, "bad_signature"
    return (claims, None) if claims["exp"] > time.time() else (None, "expired")


@app.middleware("http")
async def check(request: Request, proceed):
    if request.url.path == "/ready":
        return await proceed(request)
    value = request.headers.get("authorization", "")
    claims, reason = verify(value.removeprefix("Bearer "))
    if claims is None:
        telemetry.event(
            "security.authn.rejected",
            f"a token was refused: {reason}",
            SeverityNumber.WARN,
            **{
                "threadline.outcome": "failure",
                "threadline.reason": reason,
                "threadline.authn.method": "bearer",
                "client.address": request.client.host,
            },
        )
        return JSONResponse({"detail": "a good token is needed"}, 401)
    request.state.user_id = claims["sub"]
    return await proceed(request)


@app.get("/ready")
async def ready():
    return "ready"


@app.get("/similar/{item}")
async def similar(item: int):
    return [item + 1, item + 2]


# The last is the outermost: it sees whatever becomes of a request.
app.add_middleware(telemetry.ThreadlineMiddleware, trusted_proxies=["127.0.0.1"])

if __name__ == "__main__":
    pki = FOLDER / "pki"
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["FLEET_RECOMMEND_PORT"]),
        ssl_certfile=pki / "recommend.pem",
        ssl_keyfile=pki / "recommend.key",
        ssl_ca_certs=str(pki / "ca.pem"),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        log_config=None,
    )
    telemetry.shutdown()
