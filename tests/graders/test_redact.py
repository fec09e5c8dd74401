"""Secrets in hostile text, and ordinary text that looks like them: the first never stay, the second always does."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graders import redact
from graders.redact import MARK, Redactor, is_secret_name

KEY_LINES = "\n".join("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ" + "C7a+/" * 2 + str(i) for i in range(9))
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_LINES}\nAAAA==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLXRva2Vu"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("HF_TOKEN=hunter2", "HF_TOKEN=[redacted]"),
        ("export HF_TOKEN='hunter 2'; run", "export HF_TOKEN='[redacted]'; run"),
        ('{"apiKey": "hunter2", "port": 8000}', '{"apiKey": "[redacted]", "port": 8000}'),
        ('"api_key":"hun\\"ter2","a":1', '"api_key":"[redacted]","a":1'),
        ("args: {'api_key': ['hunter2'], 'seed': 1}", "args: {'api_key': [[redacted]], 'seed': 1}"),
        ('say \\"password\\": \\"hunter2\\", next', 'say \\"password\\": \\"[redacted]\\", next'),
        ("vllm serve --api-key hunter2 --port 8000", "vllm serve --api-key [redacted] --port 8000"),
        ("vllm serve --api-key=hunter2 --port 8000", "vllm serve --api-key=[redacted] --port 8000"),
        ("['--hf-token', 'hunter2', '--port']", "['--hf-token', '[redacted]', '--port']"),
        ("password: 12345678", "password: [redacted]"),
        ("db.password = hunter2 # old", "db.password = [redacted] # old"),
        ("ClientSecret=>hunter2", "ClientSecret=>[redacted]"),
        ("AWS_SECRET_ACCESS_KEY=hunter2/x+y", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ("- name: HF_TOKEN\n  value: hunter2\n- name: A", "- name: HF_TOKEN\n  value: [redacted]\n- name: A"),
        ('{"name":"HF_TOKEN","value":"hunter2"}', '{"name":"HF_TOKEN","value":"[redacted]"}'),
        ("> Authorization: Bearer hunter2\n> Accept: x", "> Authorization: [redacted]\n> Accept: x"),
        ("authorization: Basic aHVudGVyOjI= tail", "authorization: [redacted] tail"),
        ('curl -H "Authorization: Bearer hunter2" http://x', 'curl -H "Authorization: [redacted]" http://x'),
        ("{'authorization': 'Bearer hunter2'}", "{'authorization': '[redacted]'}"),
        ('Authorization: Digest username="a", response="b"\nnext', "Authorization: [redacted]\nnext"),
        ("X-Api-Key: hunter2", "X-Api-Key: [redacted]"),
        ("Set-Cookie: hunter2; Path=/", "Set-Cookie: [redacted]; Path=/"),
        ("sent bearer abcdefgh1234 to it", "sent bearer [redacted] to it"),
        (f"using {JWT} now", "using [redacted] now"),
        ("login hf_abcdefghijklmnopqrst done", "login [redacted] done"),
        ("key sk-proj-abcdefghij1234567890 done", "key [redacted] done"),
        ("id AKIAABCDEFGHIJKLMNOP.", "id [redacted]."),
        ("pull https://user:hunter2@registry/x", "pull https://user:[redacted]@registry/x"),
        ("GET /v1?access_token=hunter2&n=1", "GET /v1?access_token=[redacted]&n=1"),
        (f"before\n{PEM}\nafter", "before\n[redacted]\nafter"),
        (PEM.replace("\n", "\\n"), "[redacted]"),
        (f"before\n{PEM[:300]}", "before\n[redacted]"),
        (f"{PEM[-300:]}\nafter", "[redacted]\nafter"),
        (f"a line\n{PEM[-200:]}\nafter", "a line\n[redacted]\nafter"),
    ],
)
def test_a_secret_is_redacted_and_the_rest_stays(text: str, left: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == left
    assert redactor.count == 1
    assert redactor.text(left) == left
    assert redactor.count == 1


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 64, prompt_tokens=12, completion_tokens=3, total_tokens: 15",
        '{"usage": {"prompt_tokens": 64, "prompt_tokens_details": {"cached_tokens": 0}}}',
        "non-default args: {'model': '/models/gpulab-tiny', 'api_key': None, 'hf_token': None, 'max_num_seqs': 8}",
        "tokenizer='/models/gpulab-tiny', tokenizer_mode=auto, skip_tokenizer_init=False, tokenizer_revision=None",
        "stop_token_ids: [1, 2], eos_token_id=2, bos_token: '<s>', eos_token='</s>', pad_token=[PAD]",
        'vllm:time_per_output_token_seconds_bucket{le="0.025",model_name="gpulab-tiny"} 12.0',
        "Avg prompt throughput: 12.3 tokens/s, Avg generation throughput: 4.5 tokens/s, KV cache usage: 1.2%",
        "the first token: 'The', each token: x, time per output token: 12.4 ms, token: 64",
        "--max-num-batched-tokens 2048 --tokenizer x --enable-auto-tool-choice --key-file a",
        "automountServiceAccountToken: false\nsecretName: registry\nsecretKeyRef: {key: HF_TOKEN}",
        "set `automountServiceAccountToken: false`, or token: null. One token: vllm#27485",
        "volumes:\n- name: certs\n  secret:\n    secretName: tls\n",
        'MountVolume.SetUp failed for volume "kube-api-access" : secret "registry" not found',
        "bearer authentication is on; Bearer tokens are refused; the password is required",
        "password: $(PASSWORD), token: ${HF_TOKEN}, password: null, secret: <set in the Secret>",
        "PWD=/workspace SHELL=/bin/sh PATH=/usr/bin",
        "at http://10.0.0.1:8000/v1@x, see registry.k8s.io/kube-proxy@sha256:0123456789abcdef",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUabcdefghijklmnop\n-----END CERTIFICATE-----",
        "apiVersion: rbac.authorization.k8s.io/v1\nresources: [secrets]\nkey: value\nmonkey: 3\nkeyword=x",
        "at least 50% begin with the starter's token (n = 28; 95% interval 0.8766 to 1 share of answers)",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert redactor.yaml(text) == text
    assert redactor.count == 0


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("HUGGING_FACE_HUB_TOKEN", True),
        ("hfToken", True),
        ("token", True),
        ("APIKey", True),
        ("sslPassword2", True),
        ("private-key", True),
        ("tokens", False),
        ("max_tokens", False),
        ("eosToken", False),
        ("tokenizer", False),
        ("passwordFile", False),
        ("secretName", False),
        ("key", False),
        ("", False),
    ],
)
def test_names_tell_secrets(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


@given(
    key=st.sampled_from(["HF_TOKEN", "apiKey", "db.password", "X-Api-Key", "clientSecret", "Authorization", "token"]),
    value=st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9_.~+/=!@#$%^*:<>?|]{8,40}[A-Za-z0-9]", fullmatch=True),
    form=st.sampled_from(
        [
            "{0}={1}",
            "{0}: {1}",
            "{0} = '{1}'",
            '"{0}": "{1}"',
            '\\"{0}\\":\\"{1}\\"',
            "--{0} {1} --seed",
            "['--{0}', '{1}']",
            "- name: {0}\n  value: {1}\n",
            '{{"name":"{0}","value":"{1}"}}',
        ]
    ),
)
def test_whatever_the_value_none_of_it_stays(key: str, value: str, form: str) -> None:
    left = Redactor().text(f"before it {form.format(key, value)} after it")
    assert value not in left
    assert value[-8:] not in left
    assert left.startswith("before it ")
    assert left.endswith(" after it")


def test_yaml_keeps_its_form_and_loses_its_secrets() -> None:
    text = """\
# values of a learner
env:
  HF_TOKEN: hunter2   # mine
  VLLM_LOGGING_LEVEL: DEBUG
password: |
  line one
  line two
replicaCount: 2
extra: {apiKey: 'hunter2', maxTokens: 64}
env2:
- {name: DB_PASSWORD, value: "hunter2"}
- value: hunter2
  name: OTHER_PASSWORD
args: [--api-key, hunter2, --seed, "1"]
"""
    redactor = Redactor()
    assert (
        redactor.yaml(text)
        == """\
# values of a learner
env:
  HF_TOKEN: "[redacted]"   # mine
  VLLM_LOGGING_LEVEL: DEBUG
password: "[redacted]"
replicaCount: 2
extra: {apiKey: "[redacted]", maxTokens: 64}
env2:
- {name: DB_PASSWORD, value: "[redacted]"}
- value: "[redacted]"
  name: OTHER_PASSWORD
args: [--api-key, "[redacted]", --seed, "1"]
"""
    )
    assert redactor.count == 6


def test_secret_objects_lose_all_their_data() -> None:
    manifest = """\
---
apiVersion: v1
kind: Secret
metadata: {name: plain-name}
data:
  anything: aHVudGVyMg==
stringData:
  more: hunter2
---
kind: ConfigMap
data:
  anything: stays
"""
    redactor = Redactor()
    assert redactor.yaml(manifest) == manifest.replace("aHVudGVyMg==", f'"{MARK}"').replace("hunter2", f'"{MARK}"')
    assert redactor.count == 2


@pytest.mark.parametrize(
    "text",
    [
        "password: [hunter2",
        "&a [*a]\n---\npassword: hunter2",
        "password: hunter2\n\tx: {",
        "{" * 500 + "password: hunter2",
    ],
)
def test_what_is_no_yaml_is_redacted_as_text(text: str) -> None:
    assert "hunter2" not in Redactor().yaml(text)


def test_an_alias_bomb_is_walked_once() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    redactor = Redactor()
    assert redactor.yaml(f"{bomb}password: hunter2\n").endswith(f'password: "{MARK}"\n')
    assert redactor.count == 1


def test_values_of_secrets_are_found_wherever_they_stand_later() -> None:
    redactor = Redactor(["from-env-1"], learns=True)
    assert redactor.yaml("env: {HF_TOKEN: abc123def}\n") == f'env: {{HF_TOKEN: "{MARK}"}}\n'
    assert redactor.text("it has abc123def and from-env-1") == f"it has {MARK} and {MARK}"
    assert Redactor(["short1", "onlywords"]).text("short1 onlywords") == "short1 onlywords"
    forgetful = Redactor()
    forgetful.text("HF_TOKEN=abc123def")
    assert forgetful.text("abc123def") == "abc123def"


def test_structures_are_redacted_by_key_and_in_their_text() -> None:
    redactor = Redactor()
    found = redactor.value(
        {
            "env": [{"name": "HF_TOKEN", "value": "hunter2"}, {"name": "A", "value": "b"}],
            "password": "hunter2",
            "keys": {"apiKey": ["hunter2", "hunter3"]},
            "message": "Authorization: Bearer hunter2",
            "max_tokens": 64,
            "token": None,
        }
    )
    assert found == {
        "env": [{"name": "HF_TOKEN", "value": MARK}, {"name": "A", "value": "b"}],
        "password": MARK,
        "keys": {"apiKey": [MARK, MARK]},
        "message": f"Authorization: {MARK}",
        "max_tokens": 64,
        "token": None,
    }
    assert redactor.count == 5


def test_values_are_looked_for_everywhere_as_long_as_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "MOST_LEARNED", 2)
    found = Redactor(["env-value-1"], learns=True)
    assert found.text("token=first-value-2 token=second-value-3") == f"token={MARK} token={MARK}"
    assert found.text("env-value-1 first-value-2 second-value-3") == f"{MARK} {MARK} second-value-3"


def test_variables_with_secrets_are_told_from_those_that_name_a_file(tmp_path: Path) -> None:
    environment = {
        "HF_TOKEN": "/7ase64+secret==",
        "LONG_TOKEN": "/" + "x" * 5000,
        "SIGNING_KEY": str(tmp_path),
        "HOME": "/nowhere",
    }
    assert redact.secrets_of(environment) == ["/7ase64+secret==", "/" + "x" * 5000]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "token" * 40_000,
        "-----BEGIN PRIVATE KEY-----" * 7_000,
        "-----END PRIVATE KEY-----" * 8_000,
        "A" * 16 + (" " + "A" * 16) * 10_000 + "!-----END PRIVATE KEY-----",
        "name: " * 30_000,
        "password=" * 20_000,
        "token:[ " * 25_000,
        'password="' + "\\" * 200_000,
        "--api-key " * 20_000,
        "eyJaaaaaaaaa." * 15_000,
        "sk-" * 60_000,
        "bearer " * 28_000,
        "://:" * 50_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_takes_no_longer_than_any_other(text: str) -> None:
    begun = time.process_time()
    Redactor().text(text)
    assert time.process_time() - begun < 2
