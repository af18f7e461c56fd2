from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dataflows.runtime.config import HOUSE, Config, ConfigError, Section, load_config

FULL = HOUSE / "config" / "tidegate.full.toml"
MINIMAL = HOUSE / "config" / "tidegate.minimal.toml"


def keys_of(section: type[msgspec.Struct], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for field in msgspec.structs.fields(section):
        if isinstance(field.default, Section):
            found |= keys_of(type(field.default), f"{field.name}.")
        else:
            found.add(prefix + field.name)
    return found


def keys_in(document: dict[str, object], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in document.items():
        if isinstance(value, dict) and key not in ("partitions", "kafka"):
            found |= keys_in(value, f"{key}.")
        else:
            found.add(prefix + key)
    return found


def test_the_full_reference_lists_every_key_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    import tomllib

    assert keys_in(tomllib.loads(FULL.read_text())) == keys_of(Config)
    full = load_config(FULL)
    folders = ("schemas", "rules", "metrics", "behaviours", "warehouse_sql")
    absolute = {name: str(Path(getattr(full, name)).resolve()) for name in folders}
    assert msgspec.structs.replace(full, **absolute) == Config()


def test_the_minimal_reference_is_the_default() -> None:
    assert load_config(MINIMAL) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bos = 1", "unknown field `bos`"),
        ("[event_time]\ngapp = '1s'", "unknown field `gapp` - at `$.event_time`"),
        ("[event_time]\ngap = 'soon'", "'soon' is no duration"),
        ("[event_time]\ngap = 5", "expected a duration such as 30s, got 5 - at `$.event_time.gap`"),
        ("[slots]\nbatch_records = 0", "`int` >= 1 - at `$.slots.batch_records`"),
        ("[bigquery]\nwarehouse_prefix = 'a-'", "'^[A-Za-z0-9_]*$' - at `$.bigquery.warehouse_pr"),
        ("[cost]\nbudget_a_day = -1", "budget_a_day -1 must be an amount, or 0 for none"),
        ("[cost]\npod_load = 0", "pod_load 0 must be more than 0"),
        ("[cost]\ncpu_us_late = 'NaN'", "cpu_us_late NaN must be more than 0"),
        ("[cost]\nalert_at = [0]", "> 0.0 - at `$.cost.alert_at[0]`"),
        ("a = [", "cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    message = str(refused.value)
    assert says in message
    assert str(file) in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such configuration file"):
        load_config(tmp_path / "nowhere.toml")


def test_the_environment_wins_over_the_file_and_a_command_over_both(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("data_dir = 'a'\n[event_time]\ngap = '1m'\nbound = '1s'")
    environment = {
        "TIDEGATE_EVENT_TIME_GAP": "2m",
        "TIDEGATE_SLOTS_BATCH_RECORDS": "7",
        "TIDEGATE_COST_POD_VCPU": "0.25",
        "HOME": "/",
    }
    config = load_config(file, environment, {"event_time.bound": "3s"})
    assert (config.data_dir, config.event_time.gap, config.event_time.bound) == (
        "a",
        120_000_000,
        3_000_000,
    )
    assert config.slots.batch_records == 7
    assert str(config.cost.pod_vcpu) == "0.25"


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match="TIDEGATE_EVNT_TIME_GAP names no setting"):
        load_config(None, {"TIDEGATE_EVNT_TIME_GAP": "2m"})
