"""The part of the JobSet API (jobset.x-k8s.io/v1alpha2) and of the Job's that our manifest uses.

Written after the reference at https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2/ and
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/. A field that is not
here is an error, as in a server that validates strictly.
"""

COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def listed(item, **more):
    return {"type": "array", "items": item, "minItems": 1} | more


def record(required, **fields):
    """An object of these fields, of which `required` names some, and of no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


METADATA = record(
    "",
    name=NAME,
    namespace=NAME,
    labels={"type": "object", "additionalProperties": {"type": "string"}},
    annotations={"type": "object", "additionalProperties": {"type": "string"}},
)
EXIT_CODES = record(
    "operator values",
    containerName=NAME,
    operator={"enum": ["In", "NotIn"]},
    values=listed({"type": "integer", "minimum": 1, "maximum": 255}, uniqueItems=True),
)
CONDITION = record("type", type=TEXT, status={"enum": ["True", "False", "Unknown"]})
RULE = record(
    "action",
    action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
    onExitCodes=EXIT_CODES,
    onPodConditions=listed(CONDITION),
) | {"oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}]}
FIELD = record("fieldRef", fieldRef=record("fieldPath", fieldPath=TEXT, apiVersion=TEXT))
VARIABLE = record("name", name=TEXT, value={"type": "string"}, valueFrom=FIELD)
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"type": ["integer", "string"], "pattern": r"^\d+(\.\d+)?\w*$"},
}
CONTAINER = record(
    "name image",
    name=NAME,
    image=TEXT,
    workingDir=TEXT,
    command=listed(TEXT),
    args=listed(TEXT),
    env=listed(VARIABLE),
    resources=record("", limits=QUANTITIES, requests=QUANTITIES),
    volumeMounts=listed(record("name mountPath", name=NAME, mountPath=TEXT)),
)
VOLUME = record(
    "name",
    name=NAME,
    persistentVolumeClaim=record("claimName", claimName=NAME),
    emptyDir=record("", medium={"enum": ["", "Memory"]}, sizeLimit=TEXT),
) | {"minProperties": 2, "maxProperties": 2}
POD = record(
    "containers",
    restartPolicy={"const": "Never"},  # a podFailurePolicy allows no other
    terminationGracePeriodSeconds=COUNT,
    nodeSelector={"type": "object", "additionalProperties": {"type": "string"}},
    containers=listed(CONTAINER),
    volumes=listed(VOLUME),
) | {"required": ["containers", "restartPolicy"]}
JOB = record(
    "template",
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    parallelism=COUNT,
    completions=COUNT,
    backoffLimit=COUNT,
    podFailurePolicy=record("rules", rules=listed(RULE, maxItems=20)),
    template=record("spec", metadata=METADATA, spec=POD),
)
SCHEMA = record(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=METADATA | {"required": ["name"]},
    spec=record(
        "replicatedJobs",
        failurePolicy=record("", maxRestarts=COUNT),
        replicatedJobs=listed(
            record(
                "name template",
                name=NAME,
                replicas=COUNT,
                template=record("spec", metadata=METADATA, spec=JOB),
            )
        ),
    ),
)
