"""The job that builds on a cluster is what a cluster takes, and fits image, command and exit codes.

A misspelt field, or one of another version, is an error: schemas are strict.
"""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from dataflows.runtime.exits import Exit
from services.cli import app
from services.warehouse.dbt import duckdb_target

HOUSE = Path(__file__).resolve().parents[3]
JOB: dict[str, Any] = yaml.safe_load((HOUSE / "helm" / "warehouse-cronjob.yaml").read_text())
TEMPLATE = JOB["spec"]["jobTemplate"]["spec"]
POD = TEMPLATE["template"]["spec"]
(CONTAINER,) = POD["containers"]
DOCKERFILE = (HOUSE / "Dockerfile").read_text()


@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_clusters_take_it(version: str) -> None:
    kubernetes_validate.validate(JOB, version, strict=True)
    misspelt = copy.deepcopy(JOB)
    misspelt["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, version, strict=True)


def test_one_build_at_a_time_and_none_without_an_end() -> None:
    assert JOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert TEMPLATE["activeDeadlineSeconds"] > 0
    assert POD["restartPolicy"] == "Never"  # podFailurePolicy allows no other


def test_it_may_do_no_more_than_it_must() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_runs_as_the_image_is_made() -> None:
    (user,) = set(re.findall(r"USER (\d+):\1", DOCKERFILE))
    of_pod = POD["securityContext"]
    assert {of_pod[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
    (data,) = re.findall(r"TIDEGATE_DATA_DIR=(\S+)", DOCKERFILE)
    mounted = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounted == {"data": data, "tmp": "/tmp"}
    assert {volume["name"] for volume in POD["volumes"]} == mounted.keys()
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert CONTAINER["image"] == f"{project['name']}:{project['version']}"


def test_there_is_such_a_command() -> None:
    done = CliRunner().invoke(app, [*CONTAINER["args"], "--help"])
    assert done.exit_code == 0


def test_memory_is_enough_for_what_duckdb_may_take() -> None:
    taken = duckdb_target(Path("f"), bytes(32)).environment["WAREHOUSE_MEMORY"]
    assert gigabytes(CONTAINER["resources"]["limits"]["memory"]) > gigabytes(taken) + 0.5


def gigabytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Gi|GB)", text).groups()  # type: ignore[union-attr]
    return int(number) * (1.073741824 if unit == "Gi" else 1)


def test_what_fails_again_is_not_tried_again() -> None:
    first, _ = TEMPLATE["podFailurePolicy"]["rules"]
    assert first["action"] == "FailJob"
    codes = set(first["onExitCodes"]["values"])
    assert codes == {Exit.CHECK_FAILED, Exit.USAGE, Exit.REFUSED}
    assert not codes & {Exit.UNAVAILABLE, Exit.CRASHED}
