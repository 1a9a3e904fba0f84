"""Retention: which of a window's candidate captions are kept, and why each one was or was not.

A pure function of the candidates, a policy, its parameters and a seed. It reads no file and calls no model, so a
decision can be made again at any time, from the ledger alone.

    >>> from caption_assets.retention import Candidate, decide
    >>> candidates = [Candidate("k1", "A dog runs.", sample_index=0), Candidate("k2", "", "error", sample_index=1)]
    >>> decision = decide(candidates, "longest", window_id="w1", min_words=2)
    >>> decision.kept
    ('k1',)
    >>> [str(verdict.reason_code) for verdict in decision.verdicts]
    ['ONLY_CANDIDATE', 'GATE_ERROR']

Gates are in gates.py (what they look for in wording.py, repetition.py and script.py), policies in policies.py, text
measures in similarity.py, the rules that join them in decision.py.
"""

from caption_assets.retention.decision import REASONS, decide, resolve_parameters
from caption_assets.retention.gates import GATES, Gate, GateReason
from caption_assets.retention.model import Candidate, Comparison, Decision, Echo, ReasonCode, Verdict
from caption_assets.retention.parameters import Parameter
from caption_assets.retention.policies import POLICIES, Policy, PolicyReason, parse_policy
from caption_assets.retention.similarity import simhash64

__all__ = [
    "GATES",
    "POLICIES",
    "REASONS",
    "Candidate",
    "Comparison",
    "Decision",
    "Echo",
    "Gate",
    "GateReason",
    "Parameter",
    "Policy",
    "PolicyReason",
    "ReasonCode",
    "Verdict",
    "decide",
    "parse_policy",
    "resolve_parameters",
    "simhash64",
]
