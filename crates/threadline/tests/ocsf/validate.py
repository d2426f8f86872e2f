"""Reads OCSF events, one of JSON a line, as Detection Findings (class 2004) by the models of py-ocsf-models; a line of JSON for each."""

import json
import sys

from py_ocsf_models.events.findings.detection_finding import DetectionFinding
from pydantic import ValidationError

for line in sys.stdin:
    try:
        # By the type that JSON has: no text is taken for a number.
        finding = DetectionFinding.model_validate_json(line, strict=True)
        answer = {
            "class": finding.class_uid,
            "type": finding.type_uid.name,
            "activity": finding.activity_id.name,
            "status": finding.status_id.name,
            "severity": finding.severity_id.name,
            "title": finding.finding_info.title,
            "observables": [one.type_id.name for one in finding.observables],
        }
    except ValidationError as error:
        answer = {"problems": [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]}
    print(json.dumps(answer))
