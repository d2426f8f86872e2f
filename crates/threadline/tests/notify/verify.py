"""Verifies requests, a line of JSON each with secret, headers and body, by the reference library of Standard Webhooks."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    request = json.loads(line)
    try:
        event = Webhook(request["secret"]).verify(request["body"], request["headers"])
        print(json.dumps({"verified": True, "type": event["type"]}))
    except WebhookVerificationError as error:
        print(json.dumps({"verified": False, "why": str(error)}))
