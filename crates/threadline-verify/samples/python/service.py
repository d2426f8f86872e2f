"""A sample service: FastAPI, telemetry by the rendered files. For `threadline contract verify`."""

import logging
import sys

import threadline_telemetry as telemetry
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from opentelemetry._logs import SeverityNumber

telemetry.setup()
app = FastAPI()


@app.get("/orders/{order}")
async def order(order: int):
    logging.getLogger("shop").info("order %d was read", order)
    return {"order": order}


@app.get("/refused")
async def refused():
    attributes = {
        "threadline.outcome": "failure",
        "threadline.reason": "expired",
        "threadline.authn.method": "bearer",
        "client.address": "127.0.0.1",
    }
    telemetry.event("security.authn.rejected", "a token was refused: expired", SeverityNumber.WARN, **attributes)
    return JSONResponse({"detail": "a good token is needed"}, 401)


@app.get("/broken")
async def broken():
    raise RuntimeError("the shelf is broken")


# The last is the outermost: it sees whatever becomes of a request.
app.add_middleware(telemetry.ThreadlineMiddleware)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
    telemetry.shutdown()
