"""Every diagnostic code: one row, read by the checker, `policyroute explain`, the docs and the corpus test.

Numbers are stable and grouped: 0xx syntax and files, 1xx names, 2xx types and conditions, 3xx models and targets,
4xx the shape of a policy, 5xx claims, 6xx replay, 7xx what an analysis finds
(`finding_codes.py`). A code is never given to another meaning.
"""

from __future__ import annotations

from policyroute.language.code import Code
from policyroute.language.finding_codes import FINDING_CODES

CODES: dict[str, Code] = {
    row.name: row
    for row in (
        # -- 0xx syntax and files --------------------------------------------------------------------------------------
        Code(
            "syntax-error", "PR001",
            "The text can't be read: a sign or word stands where the language doesn't allow it.",
            "A policy that is read by guessing is not the policy that was written. Reading goes on at the next declaration, so one run shows all such places.",
            'rule short { if tokens < 500 then mini }', 'rule short { when tokens < 500 then mini }',
        ),
        Code(
            "bad-number", "PR002",
            "A literal has the right form and no meaning: a fraction where whole numbers are counted, a day that no calendar has, a number beyond 10^15.",
            "Conditions know no fractions, so that every reading computes the same.",
            "rule short { when tokens < 1.5 then mini }", "rule short { when tokens < 1.5k then mini }",
        ),
        Code(
            "edition-unknown", "PR003",
            "The file asks for an edition of the language that this version doesn't know.",
            "An edition fixes what a policy means. Reading it under another one could decide differently.",
            "edition 7", "edition 1",
        ),
        Code(
            "file-unreadable", "PR004",
            "A policy file, a file named by `use`, or a file of words can't be read.",
            "A policy that loads without a part of it would decide differently.",
            'use "modles.route"', 'use "models.route"',
        ),
        Code(
            "use-cycle", "PR005",
            "A file uses itself, directly or through another one.",
            "Declarations need one place of origin.",
            'use "self.route"', '# what both files need stands in a third one\nuse "models.route"',
        ),
        Code(
            "not-in-used-file", "PR006",
            "A used file holds something other than declarations: a rule, a limit, a claim.",
            "Rules are tried from top to bottom of one file. Rules from elsewhere would have no place in that order.",
            'use "rules.route"', "# rules, limits, state and claims stand in the policy's own file\nuse \"models.route\"",
        ),
        # -- 1xx names -------------------------------------------------------------------------------------------------
        Code(
            "duplicate-name", "PR101",
            "Two declarations have the same name.",
            "A name that means two things is read differently by two people.",
            "tier cheap = mini\ntier cheap = nano", "tier cheap = mini, nano",
        ),
        Code(
            "unknown-name", "PR102",
            "A condition reads a name that is neither a signal nor a `let`, `tunable` or classifier.",
            "A policy that reads what doesn't exist can't decide.",
            "rule short { when prompt_token < 500 then mini }", "rule short { when tokens < 500 then mini }",
        ),
        Code(
            "unknown-words", "PR103",
            "`has` asks for a set that no `words` or `pattern` declares.",
            "Text is asked through named sets, so that each is one scan, one column and one variable in a proof.",
            "rule trouble { when prompt has urgnt then strong }", 'words urgent = "outage"\nrule trouble { when prompt has urgent then strong }',
        ),
        Code(
            "unknown-model", "PR104",
            "A model or tier is named that nothing declares.",
            "A request can only be sent to what is declared.",
            "otherwise { then mimi }", "otherwise { then mini }",
        ),
        Code(
            "unknown-key", "PR105",
            "`by` names something that is not a key signal.",
            "Splits, exploration, stickiness, quotas and budgets go by `user`, `team`, `conversation` or a declared key.",
            "explore 1% by tokens", "explore 1% by user",
        ),
        Code(
            "let-cycle", "PR106",
            "A `let` is defined by itself.",
            "It would have no value.",
            "let a = b\nlet b = a", "let a = tokens > 3k\nlet b = a and code",
        ),
        # -- 2xx types and conditions ----------------------------------------------------------------------------------
        Code(
            "not-a-condition", "PR201",
            "A condition is wanted and something else stands there.",
            "Every condition is true or false; numbers and members are not.",
            "rule short { when tokens then mini }", "rule short { when tokens > 0 then mini }",
        ),
        Code(
            "not-a-number", "PR202",
            "A comparison or sum has a side that is not a number.",
            "Numbers are compared with numbers. Members are tested with `is` and `in`.",
            "rule paid { when plan == 3 then strong }", "rule paid { when plan is pro then strong }",
        ),
        Code(
            "not-an-enum", "PR203",
            "`is` or `in` tests something that has no members.",
            "Only signals with named members can be one of them.",
            "rule drafts { when code is yes then mini }", "rule drafts { when code then mini }",
        ),
        Code(
            "not-a-text", "PR204",
            "`has` tests something that is not a text.",
            "Texts are `prompt`, `last` and `system`.",
            "rule trouble { when plan has urgent then strong }", "rule trouble { when prompt has urgent then strong }",
        ),
        Code(
            "unknown-member", "PR205",
            "A signal is compared with a member that it doesn't have.",
            "The test could never be true.",
            "rule paid { when plan is gold then strong }", "rule paid { when plan is pro then strong }",
        ),
        Code(
            "key-compared", "PR206",
            "A key or a text is compared.",
            "Keys are only hashed, partitioned by or reported, and texts only tested with `has`, so that a policy holds no personal data.",
            'rule boss { when user is ann then strong }', "signal plan : free | pro = free  from header \"x-user-plan\"",
        ),
        Code(
            "missing-unsaid", "PR207",
            "A negative test of an optional signal doesn't say what `missing` means.",
            "`feature is not search` is true for a request without the feature, which is seldom what was meant.",
            "rule other { when feature is not search then mini }", "rule other { when feature not in (search, missing) then mini }",
        ),
        Code(
            "product-of-signals", "PR208",
            "Two signals are multiplied.",
            "Only products with a constant keep conditions linear, and so provable.",
            "rule big { when tokens * turns > 9k then strong }", "rule big { when 3 * tokens > 9k then strong }",
        ),
        Code(
            "number-too-large", "PR209",
            "A sum or product can leave the range of 63-bit integers.",
            "No expression can fail, in any reading.",
            "rule big { when 1000000M * tokens > 1 then strong }", "rule big { when tokens > 0 then strong }",
        ),
        Code(
            "bad-pattern", "PR210",
            "A pattern is not valid RE2, or matches every text.",
            "Live and in replay the same linear-time engine runs it; look-around and back-references don't exist there.",
            "pattern code_fence = /(?=x)/", "pattern code_fence = /```/",
        ),
        Code(
            "bad-range", "PR211",
            "A range is upside down, a default lies outside it, or a built-in number is widened.",
            "Range and default are the type, the solver's domain and the test generator's bounds at once.",
            "signal seats : int 10..1 = 1  from metadata \"seats\"", "signal seats : int 1..10 = 1  from metadata \"seats\"",
        ),
        Code(
            "default-missing", "PR212",
            "A declared signal has no default.",
            "A request without the value still needs exactly one decision.",
            'signal plan : free | pro  from header "x-user-plan"', 'signal plan : free | pro = free  from header "x-user-plan"',
        ),
        Code(
            "bad-redeclaration", "PR213",
            "A built-in signal is declared again with another type.",
            "A built-in number's bounds and default can be narrowed, and a key's place can be named; meanings can't change.",
            "signal tokens : bool = false", "signal max_output : int 1..64k = 4k",
        ),
        Code(
            "empty-words", "PR214",
            "A set of words holds an empty phrase, or none at all.",
            "It would match everything or nothing.",
            'words urgent = ""', 'words urgent = "outage"',
        ),
        Code(
            "condition-too-large", "PR215",
            "A condition is nested more than 100 deep, or has more than 5,000 parts when its lets are written out.",
            "Every reading is bounded: a condition that a policy file can hold has to be one that all of them can compute.",
            'let deep = not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not code', "let deep = not code",
        ),
        # -- 3xx models and targets ------------------------------------------------------------------------------------
        Code(
            "model-incomplete", "PR301",
            "A model has no `id`, or one of `in` and `out` without the other.",
            "The id is what is sent to the provider, and half a price is no price.",
            'model mini { in $1 out $2 }', 'model mini { id "gpt-4o-mini" in $1 out $2 }',
        ),
        Code(
            "duplicate-item", "PR302",
            "An entry of a block is given twice.",
            "Only one of them could hold.",
            'model mini { id "a" id "b" }', 'model mini { id "a" }',
        ),
        Code(
            "unknown-ability", "PR303",
            "`can` names an ability that no request needs.",
            "Abilities decide which models drop out of a chain; a misspelt one would let requests through to models that can't take them.",
            'model mini { id "a" can toools }', 'model mini { id "a" can tools, images, json }',
        ),
        Code(
            "shares-not-100", "PR304",
            "A split's shares don't add up to 100 %, or a share is 0 % or above 100 %.",
            "Every request takes exactly one arm.",
            "otherwise { then split by user { 50% mini, 40% strong } }", "otherwise { then split by user { 60% mini, 40% strong } }",
        ),
        Code(
            "price-not-found", "PR305",
            "A model has no price in the policy, and the price library doesn't know its id.",
            "An unknown price is never 0: a saving computed with it would be invented.",
            'model own { id "our-model" }', 'model own { id "our-model" in $0.20 out $0.60 }',
        ),
        Code(
            "order-unknown", "PR306",
            "`order` names something that is not a tier, or a tier twice.",
            "The order of tiers is what `up` and `never downgrade` mean.",
            "order cheap < mini", "order cheap < premium",
        ),
        Code(
            "order-missing", "PR307",
            "`never downgrade` or `up` is used with tiers that `order` doesn't rank.",
            "Without an order there is no higher tier.",
            "escalate cheap { when answer is empty then up }", "order cheap < premium\nescalate cheap { when answer is empty then up }",
        ),
        # -- 4xx the shape of a policy ---------------------------------------------------------------------------------
        Code(
            "edition-missing", "PR401",
            "The file doesn't begin with `edition 1`.",
            "The edition fixes what the policy means, for years.",
            "policy support", "edition 1\npolicy support",
        ),
        Code(
            "policy-missing", "PR402",
            "The file has no `policy NAME`.",
            "The name goes into the hash that splits traffic, into reports and into logs.",
            "edition 1", "edition 1\npolicy support",
        ),
        Code(
            "otherwise-missing", "PR403",
            "The policy doesn't end in `otherwise`.",
            "Every request gets exactly one decision.",
            "rule short { when tokens < 500 then mini }", "rule short { when tokens < 500 then mini }\notherwise { then strong }",
        ),
        Code(
            "rule-after-otherwise", "PR404",
            "A rule stands behind `otherwise`, or `otherwise` stands there twice.",
            "It could never be reached.",
            "otherwise { then mini }\nrule late { when code then strong }", "rule late { when code then strong }\notherwise { then mini }",
        ),
        Code(
            "declared-twice", "PR405",
            "Something that a policy can have once is declared again.",
            "Only one of them could hold.",
            "explore 1% by user\nexplore 2% by team", "explore 1% by user",
        ),
        Code(
            "unknown-zone", "PR406",
            "The time zone is not in the IANA database.",
            "`hour` and `weekday` would have no meaning.",
            'timezone "Berlin"', 'timezone "Europe/Berlin"',
        ),
        Code(
            "classifier-incomplete", "PR407",
            "A classifier lacks the model that it asks, its prompt, or the member it takes on failure.",
            "Every request gets a decision, also when the classifier is down.",
            "classifier level : easy | hard { ask mini }", 'classifier level : easy | hard { ask mini prompt "Easy or hard?" on failure hard }',
        ),
        Code(
            "bad-failure-clause", "PR408",
            "A clause of `on failure` names a cause that doesn't exist, or `on stream failure` an action that doesn't.",
            "Causes are HTTP status codes from 400 to 599, `timeout` and `connection`.",
            "on failure { retry 1 on 42 then next }", "on failure { retry 1 on 429, timeout then next }",
        ),
        Code(
            "bad-answer-test", "PR409",
            "`answer` is tested for something that an answer can't be, or outside `escalate`.",
            "An answer `is empty`, `is truncated`, `is json`, or `has` a set of words; it exists only after the model has spoken.",
            "rule weak { when answer is empty then strong }", "order cheap < premium\nescalate cheap { when answer is empty then up }",
        ),
        Code(
            "bad-limit", "PR410",
            "A quota or budget allows nothing, or sends its overflow to a split.",
            "The overflow of a limit needs one certain place.",
            "quota q { 0 per day by user then mini }", "quota q { 100 per day by user then mini }",
        ),
        # -- 5xx claims ------------------------------------------------------------------------------------------------
        Code(
            "bad-given", "PR501",
            "A test gives a signal a value that it can't have.",
            "The test would show nothing about real requests.",
            'test "t" { given plan gold expect otherwise }', 'test "t" { given plan pro expect otherwise }',
        ),
        Code(
            "unknown-rule", "PR502",
            "A test expects a rule that the policy doesn't have.",
            "It could never pass.",
            'test "t" { given tokens 5 expect shrot }', 'test "t" { given tokens 5 expect short }',
        ),
        Code(
            "unknown-actor", "PR503",
            "A test expects an effect of a quota, budget, `sticky` or `escalate` that the policy doesn't have.",
            "It could never pass.",
            'test "t" { given tokens 5 expect short by quota fairness }', 'test "t" { given tokens 5 expect short by quota fair_use }',
        ),
        Code(
            "bad-guarantee", "PR504",
            "A guarantee doesn't say `never` or `always` of models, tiers or `refused`.",
            "A claim that can be read two ways can't be proven.",
            "guarantee g : nano when code", "guarantee g : never nano when code",
        ),
        Code(
            "unknown-metric", "PR505",
            "A gate requires a metric that a replay doesn't have, or compares it with the wrong kind of value.",
            "A gate that can't be measured can't be met.",
            'gate g on "t.parquet" against recorded { require profit >= 5% }', 'gate g on "t.parquet" against recorded { require savings >= 5% at 95% }',
        ),
        # -- 6xx replay ------------------------------------------------------------------------------------------------
        Code(
            "signal-not-in-trace", "PR601",
            "The policy reads a signal that a trace can't give, for some rows or for all.",
            "A default in its place would decide requests by a value that nobody recorded. Rows whose decision depends on it are counted as not replayable.",
            "policyroute simulate azure.parquet      # no prompts, and the policy asks `prompt has urgent`",
            "policyroute simulate azure.parquet --assume tools=0      # states what holds; the report repeats it",
        ),
        Code(
            "not-replayed", "PR602",
            "The policy holds something that can change decisions, and the trace has no times to follow it by: `sticky`, `quota`, `budget`.",
            "A figure that leaves it out without a word would describe another policy.",
            "policyroute simulate traces.csv      # no times, and the policy has `sticky by conversation`",
            "policyroute simulate traces.csv --without sticky      # the report says so",
        ),
        *FINDING_CODES,
    )
}  # fmt: skip

BY_NUMBER: dict[str, Code] = {row.number: row for row in CODES.values()}
