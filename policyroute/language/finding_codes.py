"""Codes of what an analysis finds in a policy that loads: 7xx. See `codes.py` for what a row is."""

from __future__ import annotations

from policyroute.language.code import Code

FINDING_CODES: tuple[Code, ...] = (
    # -- 70x proofs ----------------------------------------------------------------------------------------------------
    Code(
        "not-proven", "PR700",
        "A question about every possible request was not decided in its time.",
        "A proof that is missing is none. So this fails, as a broken guarantee does.",
        "policyroute check --proof-time 0.01", "policyroute check --proof-time 60",
    ),
    # -- 71x rules -----------------------------------------------------------------------------------------------------
    Code(
        "contradiction", "PR710",
        "A rule's condition can't hold: its parts exclude each other, or leave the range of a signal.",
        "The rule was written for some requests, and none of them gets it.",
        "rule mid { when tokens > 3k and tokens < 500 then mini }", "rule mid { when tokens > 500 and tokens < 3k then mini }",
    ),
    Code(
        "dead-rule", "PR711",
        "Rules above take every request for which the condition holds. They are the smallest set that does.",
        "First match wins, so the rule never decides. Where it names another target, that target is never reached by it.",
        "rule short { when tokens < 3k then mini }\nrule tiny { when tokens < 500 then strong }",
        "rule tiny { when tokens < 500 then strong }\nrule short { when tokens < 3k then mini }",
    ),
    Code(
        "redundant-rule", "PR712",
        "Without the rule, rules below it would send its requests the same way.",
        "It decides nothing. It may still be wanted for its name in reports; so this is a note and fails nothing.",
        "rule code_too { when code then strong }\notherwise { then strong }", "otherwise { then strong }",
    ),
    Code(
        "overlap", "PR713",
        "Two rules with different targets hold for the same requests; the upper one takes them. Shown with `--overlaps`.",
        "The order of the two decides. Where two teams own them, both should know.",
        "rule short { when code then mini }\nrule agents { when tools > 0 then strong }",
        "rule agents { when tools > 0 then strong }\nrule short { when code and tools == 0 then mini }",
    ),
    # -- 72x chains ----------------------------------------------------------------------------------------------------
    Code(
        "dead-end", "PR720",
        "A rule sends requests to a chain of which limits, context or abilities leave no model, though another model of the policy could take them.",
        "Such a request is refused with \"no model can take this request\". The witness shows one.",
        'model blind { id "b" can tools, json }\nrule pictures { when images then blind }',
        'model blind { id "b" can tools, json }\nrule pictures { when images then blind fallback strong }',
    ),
    Code(
        "too-long-for-all", "PR721",
        "Some requests fit no model of the policy: they are longer than every context, or every model is forbidden.",
        "They are refused with \"no model can take this request\". This is a note: no chain could serve them, but a rule could say more.",
        'edition 1\npolicy hello\nmodel mini { id "m" context 128k }\notherwise { then mini }',
        'edition 1\npolicy hello\nmodel mini { id "m" context 128k }\nrule too_long { when tokens + max_output > 128k then refuse "Please start a new conversation." }\notherwise { then mini }',
    ),
    Code(
        "useless-fallback", "PR722",
        "A fallback can take none of the requests of its rule.",
        "An outage of the first choice ends in a refusal, though the file looks as if it didn't.",
        'model small { id "s" context 8k }\nrule long { when tokens > 300k then strong fallback small }', "rule long { when tokens > 300k then strong fallback opus }",
    ),
    Code(
        "unable-model", "PR723",
        "The first choice of a rule can take none of its requests.",
        "Each of them goes to a fallback, which is then the real first choice.",
        'model blind { id "b" can tools, json }\nrule pictures { when images then blind fallback strong }', "rule pictures { when images then strong }",
    ),
    Code(
        "downgrading-fallback", "PR724",
        "A chain falls back to a model of a lower tier, and `sticky` says `never downgrade`.",
        "In the middle of a conversation the fallback is what was promised not to happen.",
        "order cheap < premium\nsticky by conversation for 1h { never downgrade }\nrule hard { when code then opus fallback haiku }",
        "order cheap < premium\nsticky by conversation for 1h { never downgrade }\nrule hard { when code then opus fallback sonnet }",
    ),
    Code(
        "crossing-apis", "PR725",
        "The models of a chain speak no common API, so a fallback is asked in another one than the client spoke.",
        "The gateway converts, and what the other API hasn't is lost. A note: an outage may be worth it.",
        'model gpt { provider openai id "gpt" in $1 out $2 }\nmodel claude { provider anthropic id "claude" in $1 out $2 }\nrule hard { when code then claude fallback gpt }',
        'model gpt { provider openai id "gpt" in $1 out $2 }\nmodel claude { provider anthropic id "claude" in $1 out $2 }\nrule hard { when code then claude }\nrule soft { when images then gpt }',
    ),
    # -- 73x claims ----------------------------------------------------------------------------------------------------
    Code(
        "guarantee-broken", "PR730",
        "A guarantee doesn't hold: the witness is a request that breaks it.",
        "It was declared for every possible request, fallbacks, arms of splits and exploration included.",
        "guarantee g : never opus when plan is free\nrule hard { when code then opus }",
        "guarantee g : never opus when plan is free\nforbid opus when plan is free\nrule hard { when code then opus fallback strong }",
    ),
    Code(
        "untested-rule", "PR731",
        "No test of the policy expects the rule.",
        "What it decides can change without any test failing.",
        "rule hard { when code then strong }", 'rule hard { when code then strong }\ntest "code is hard" { given code expect hard -> strong }',
    ),
    Code(
        "vacuous-guarantee", "PR732",
        "No request is as a guarantee's condition asks, so it holds whatever the rules say.",
        "It looks like a protection and is none.",
        "guarantee g : never opus when tokens < 0", "guarantee g : never opus when tokens < 500",
    ),
    # -- 74x declarations ----------------------------------------------------------------------------------------------
    Code(
        "unused-declaration", "PR740",
        "Nothing in the policy uses a declaration of its own file.",
        "Someone will change it and wonder why nothing happens; or a rule that should use it doesn't.",
        'words legal = "lawsuit"',
        'words legal = "lawsuit"\nrule law { when prompt has legal then strong }',
    ),
    Code(
        "duplicate-declaration", "PR741",
        "Two declarations have different names and the same content.",
        "One of them will be changed without the other.",
        "tier fast = mini, nano\ntier quick = mini, nano", "tier fast = mini, nano",
    ),
    Code(
        "expired-rule", "PR742",
        "The day that a rule's `expires` names has passed.",
        "The rule still decides: a date stops nothing by itself, it asks to be looked at.",
        "rule pilot { expires 2026-01-31 when code then strong }", "rule pilot { expires 2030-01-31 when code then strong }",
    ),
    Code(
        "owner-missing", "PR743",
        "A rule names no owner, and `--owners` asks for one.",
        "When it does harm, nobody knows whom to call.",
        "rule pilot { when code then strong }", 'rule pilot { owner "platform" when code then strong }',
    ),
    # -- 75x state and learned signals ---------------------------------------------------------------------------------
    Code(
        "unholdable-tier", "PR750",
        "`sticky` says `never downgrade`, and a `forbid` can leave no model of a tier that a conversation may be in.",
        "Limits have the last word, so such a request is served by the tier that its rule decides: what was promised not to happen.",
        "order cheap < premium\nsticky by conversation for 1h { never downgrade }\nforbid opus, sonnet when plan is free\nrule hard { when code then premium }",
        "order cheap < premium\nsticky by conversation for 1h { never downgrade }\nforbid opus when plan is free\nrule hard { when code then premium }",
    ),
    Code(
        "idle-limit", "PR751",
        "A quota or budget counts no request: none for which its condition holds comes to a model that it covers.",
        "It looks like a protection of the bill and is none.",
        "forbid opus, sonnet when plan is free\nquota few { 5 per day by user of premium when plan is free then cheap }\nrule hard { when code then premium }",
        "quota few { 5 per day by user of premium when plan is free then cheap }\nrule hard { when code then premium }",
    ),
    Code(
        "pointless-limit", "PR752",
        "What no longer fits into a quota or budget goes to the models that it went to anyway.",
        "Nothing is limited, and reports call requests changed that are not.",
        "quota few { 5 per day by user of opus then opus }\nrule hard { when code then opus }",
        "quota few { 5 per day by user of opus then cheap }\nrule hard { when code then opus }",
    ),
    Code(
        "silent-classifier", "PR753",
        "Whatever a classifier answers, every request is sent the same way.",
        "Each of its calls costs money and time, and decides nothing.",
        'classifier mood : good | bad { ask mini prompt "Good or bad?" on failure good }\nrule angry { when mood is bad and code then premium }\nrule happy { when mood is good and code then premium }',
        'classifier mood : good | bad { ask mini prompt "Good or bad?" on failure good }\nrule angry { when mood is bad and code then premium }\nrule happy { when mood is good and code then cheap }',
    ),
    Code(
        "top-escalation", "PR754",
        "`escalate` names the highest tier, or one above which no model can take its requests.",
        "A weak answer stays as it is, though the file says that it goes up.",
        "order cheap < premium\nescalate cheap, premium { when answer is empty then up }\nrule hard { when code then premium }",
        "order cheap < premium\nescalate cheap { when answer is empty then up }\nrule hard { when code then premium }",
    ),
)  # fmt: skip
