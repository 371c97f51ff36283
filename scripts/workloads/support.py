"""A support desk of a web-shop platform: mostly easy questions, some look-ups of orders, a little trouble."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime

from workloads.world import Call, Dice, Message, User, Workload, calls, people, result, say

SYSTEM = """You are the support assistant of Stallkeeper, a platform for small web shops. Answer in the customer's language.
Be brief and friendly, use the customer's words, and give steps as a numbered list. Name the menu that you mean: Settings, Orders,
Products, Payments, Team. Never promise a refund, a date of delivery or a legal outcome; say who decides and by when. Never ask
for a password or a full card number. If you don't know, say so and offer to pass the conversation on to a colleague.
Plans: free has one shop and community support; pro has three shops and answers within a day; enterprise has a contact person.
Working hours of the team: Monday to Friday, 8:00 to 18:00 UTC."""

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": name, "description": text, "parameters": {"type": "object", "properties": properties}},
        }
        for name, text, properties in (
            ("lookup_order", "State of an order by its number", {"order": {"type": "string"}}),
            ("track_parcel", "Events of a parcel by tracking code", {"code": {"type": "string"}}),
            ("create_return", "Open a return for an order", {"order": {"type": "string"}, "reason": {"type": "string"}}),
        )
    ],
    separators=(",", ":"),
)

ARTICLES = tuple(
    f"## {title}\n" + " ".join(lines)
    for title, lines in (
        ("Domains", (
            "A shop answers at its own name once the domain's A record points to our address and the CNAME of www to the shop.",
            "Changes of DNS take up to a day; until then some visitors see the old site.",
            "The certificate is ordered as soon as both records are right, and renewed every sixty days without your doing.",
            "A CAA record that names another authority keeps the certificate from being issued; remove it or add ours.",
            "E-mail is not touched by this: leave the MX records as they are.",
        )),
        ("Tax zones", (
            "Prices are kept without tax, and tax is added by the customer's country, or by the shop's where goods are fetched.",
            "Reduced rates are set per product group. A product in two groups takes the lower rate.",
            "Within the union the seller's rate holds up to the yearly threshold; beyond it the rate of the destination, reported by quarter.",
            "Business customers with a valid VAT number pay none across a border; the number is checked when they enter it.",
            "Changed rates hold for new orders. Open carts are recalculated at the next visit.",
        )),
        ("Importing products", (
            "Products come in as CSV with a header line; columns are matched by name, and unknown ones become properties.",
            "Variants are lines with the same handle. The first line of a handle holds title, text and pictures.",
            "Numbers take a point, money has no currency sign, and texts with commas stand in quotes.",
            "An import runs in the background and ends in a report; lines with mistakes are skipped and listed there.",
            "Importing a file again updates products by handle and never deletes any.",
        )),
        ("Webhooks", (
            "A webhook is sent within a minute of the event, signed with the shop's secret in the header X-Signature.",
            "Any answer but 2xx counts as failed. Failed ones are sent again after 1, 5, 30 and 120 minutes, then put aside.",
            "Events can arrive twice and out of order: use the event's id and its time, not the order of arrival.",
            "The list under Settings, Developers shows the last hundred deliveries with the answers that we got.",
        )),
        ("Payouts", (
            "Money of card payments is paid out every second working day, less fees and open returns.",
            "The first payout takes a week, because the bank account is verified with a small transfer.",
            "A payout is held when the account's holder and the shop's owner differ, or when returns exceed sales.",
            "Each payout's statement lists its payments; the sum of the statement equals the transfer to the cent.",
        )),
        ("Plans and invoices", (
            "A plan runs by the month or by the year, from the day it was chosen. A change to a larger plan holds at once and is reckoned by the day.",
            "A change to a smaller plan, or a cancellation, takes effect at the end of the paid period; until then nothing is lost.",
            "Invoices are written on the first of the month and stay under Settings, Plan, Invoices for ten years.",
            "A failed card is tried again after two, four and seven days; then the shop is read-only until a card works.",
        )),
        ("Accounts and login", (
            "Each person has one account, however many shops it is in. Roles are owner, admin, editor and orders only.",
            "The link for a new password holds for an hour and can be used once. Ask again if it has run out.",
            "Two-factor login takes any authenticator app. Recovery codes are shown once, when it is turned on.",
            "After ten wrong passwords an account rests for fifteen minutes. Colleagues are not affected.",
        )),
        ("Shipping", (
            "Tables of shipping costs go by weight, by value or by number of parcels, and by zone; the first line that fits holds.",
            "Times of delivery are the carrier's, plus the shop's days for packing. The checkout shows the later one.",
            "Labels are bought under Orders, one by one or for all that are packed. A label that was not used is refunded after four weeks.",
            "Pick-up points are shown where the carrier offers them within ten kilometres.",
        )),
        ("Returns and refunds", (
            "A return is opened by the customer or by the shop, for single lines of an order. It holds a reason and a decision.",
            "Money goes back the way it came, within five working days of the decision; gift cards are filled up again.",
            "Digital goods and goods made to order can be excluded per product group; the checkout says so before payment.",
            "Fees of the payment provider are not returned.",
        )),
        ("Codes and gift cards", (
            "A code takes off a share or an amount, once or often, for all or for some products, until its last day.",
            "Codes are not added up unless both allow it. The better one for the customer is taken.",
            "A gift card is a product with a value; what is left of it stays on the card.",
            "Where a code is refused, the reason is shown in the order's log.",
        )),
    )
)  # fmt: skip

FAQ = (
    ("What are your {business hours|opening hours}{| on {Friday|public holidays|weekends}}?", "We are here Monday to Friday, 8:00 to 18:00 UTC. {Outside of that|At other times} the help centre has most answers."),
    ("{How do I|How can I|Where do I|I want to} {reset my password|change my password|change my email}{| {on my phone|in the app|for a second shop}}?", "1. Open Settings.\n2. Choose Your account.\n3. Press the {pencil|edit button} beside it and follow the link in the mail that we send."),
    ("{What is|How long is|Can you tell me} the {usual |}delivery time {to|for} {Spain|Canada|Norway|Japan|the UK|Brazil}?", "That depends on the shop's carrier: {two to four|three to six|five to nine} working days are usual. The exact estimate is shown at checkout."),
    ("{How much is|What is} the shipping cost for {a small parcel|two kilos|a letter|an express parcel}?", "Shipping costs are set under Settings, Shipping. {The default table|Our standard table} starts at 3.90 for letters."),
    ("{What is your|Where can I read the|Do you have a} {return policy|refund policy}{| for {opened goods|gift orders|digital goods}}?", "Customers can return goods within 14 days. The shop's owner decides on refunds within five working days."),
    ("{Can I|How do I|Is it possible to} {sell|redeem|use|send} a {gift card|discount code}{| twice| at checkout| by mail}?", "Yes. {Under Products, Codes|In Products, then Codes} you set its value, its last day and how often it may be used."),
    ("{Please|How do I|I'd like to} {cancel my subscription|update my card}{| before {Monday|the next month|the trial ends}}.", "You can do that under Settings, Plan. {The change holds from the next month on|It takes effect at the end of the paid month}."),
    ("{Where is|I can't find|Please send me} {my|the} {last |March |yearly |}invoice{| for {accounting|my tax advisor}}.", "All invoices are under Settings, Plan, Invoices, as PDF. {You can add a second address for them there|They are mailed on the first of the month}."),
    ("{What is the|I have a question on} pricing of {pro|enterprise|a second shop|extra seats}?", "Pro costs 29 a month with three shops. {Extra seats are 5 each|Enterprise is priced by orders; I can connect you with sales}."),
    ("{How long|When} does {my|the} free trial {end|last|run}?", "The free trial lasts 14 days and ends by itself. {No card is needed|We write to you two days before}."),
    ("{How do I|Should I} {set up|turn off|move} two-factor {|login }{on a new phone|for my team|for one user}?", "Under Settings, Security. {Keep the ten recovery codes in a safe place|Every team member turns it on alone}."),
    ("{How do I|Can I} export my data {as CSV|for my accountant|before I leave}?", "Settings, Data, Export. {You get a link by mail within an hour|Large shops take up to a day}."),
    ("{Where|How} do I {set|change} the time zone {of my shop|in reports}?", "Under Settings, Shop. {Reports follow it from the next day on|Old orders keep their times}."),
)  # fmt: skip

FOLLOW = (
    "{And|What about} {on mobile|in the app|for my second shop|for my colleagues}?", "{Thanks|Great, thank you|Perfect}{, that worked|, I found it|}!",
    "Can I {undo that|do it later|let a colleague do it}?", "I don't see that {menu|button|page}. {Where exactly is it?|I am on the free plan.|}",
    "And {where do I find the invoice|what is the refund policy|how do I update my card|what is the delivery time} then?",
)  # fmt: skip
CLOSING = (
    "{You are welcome|Gladly}! {Is there anything else|Can I do anything else for you}?",
    "It is in the menu at the top {left|right}, behind your shop's name. {On small screens it is behind the three lines|You need the role owner or admin to see it}.",
    "Yes, {that works the same way|you can}. {Changes are kept for 30 days|A colleague needs the role admin for it}.",
)
HOWTO = (
    "I moved my domain {last week|yesterday|on Tuesday} and {some|about half of the|a few} visitors {still see|get a warning and not} the shop. DNS looks right to me, the CNAME points to you. {What else can it be?|How do I find out what is wrong?}",
    "{Customers in Austria|Two of my customers|Business customers abroad} are charged {the wrong tax|tax twice|no tax}. I have {two|three} tax zones and a reduced rate for books. {Which one wins?|How should I set this up?}",
    "My import of {800|1,400|3,200} products stops with mistakes in {12|40|a few hundred} lines, mostly the variants. The file {comes from our old shop|is from a supplier}. How do I get them in without doubling the others?",
    "Our ERP gets some webhooks twice and others {late|in the wrong order}, so stock is off by {two|five|a few}. {What should our side do?|Is there a setting for that?}",
    "The payout of {Monday|last week} is {lower than|not} what the statement says, by {41.20|118.75|63.10}. {Can you explain how it is reckoned?|Why?}",
)  # fmt: skip
EXPLAIN = "{I looked at this with you in mind|Let us go through it|There are a few things to look at}. {First|To begin with}, {check the setting under Settings|compare the two lists|open the report of the last run}. {Then|After that} {change one thing at a time|try it with a single product|wait for the next delivery}, {because both rules can hold at once|since caches keep the old state for up to a day|as the later rule wins}. {If it still differs, send me the number of one example|Tell me what you see there and we go on from it}. {Nothing of this changes orders that are already placed|You can undo each of these steps for 30 days}."
DETAILS = (
    "That {helped a little|changed nothing}. The {second|other} one {is still wrong|shows the old value}, and {the report says 'skipped'|my colleague sees it too}. {What next?|Any idea?}",
    "I {did|tried} both. Now {one|the first} is right but {the rest is|the others are} not. Is it {the order of the rules|the cache|the group}?",
    "Here is an example: handle {mug-blue|lamp-2|chair-oak}, {price|tax|stock} {shows 0|is empty|is doubled} since the {import|change}. {Can you see why?|}",
)
URGENT = (
    "{Help, |}our {shop is down|checkout is down} since {nine|this morning|20 minutes ago}{| and we run a campaign today}!",
    "{Production down|We have an outage}: {all pages answer 502|customers see a blank page|the app shows nothing}. {Please call us|What is going on}?",
    "After the update {we lost all orders of today|we see data loss in stock|our payments fail with a timeout}. {Stop everything|What do we do now}?",
    "{Nobody of us|Our whole team} cannot log in {since the update|with the new domain}, and {orders are waiting|the sale begins at noon}.",
)
CALM = "I am sorry, this is {urgent|serious}, and I have told the colleagues on duty. {Please don't change any settings now|Keep a note of the time when it began}. {Meanwhile your status page can point customers to mail|Orders that were paid are safe in the payment provider's list}. You get news within {15|20|30} minutes {here|by mail}."
LEGAL = (
    "A customer {threatens me with a lawsuit|sent a letter from a lawyer} over {a late parcel|a broken lamp|a photo}. {What do you store about the order?|What must I answer?}",
    "I received a {subpoena|court order} for {order data|a customer's address}. {Who do I send it to?|Do you handle this?}",
    "A buyer asks for all data under GDPR{| within a week}. {How do I answer?|Which data do you keep?}",
    "The bank tells me of a chargeback of {89.00|240.50|31.99}. {Can I contest it?|What proof do they want?}",
)
CAREFUL = "I can't give legal advice, but I can tell you what we hold: {the order, its invoice and the messages of this order|name, address and the payment's reference}. {Please send the letter to the address under Settings, Legal|A colleague of the legal team answers within two working days}. {Don't delete anything until then|Keep the parcel's receipt}."
NOT_HELPED = (
    "This did not help. {I need a real answer|Please look again|You only repeat the article}.",
    "No, {that is not what I asked|I did all that before}. {Again, please|Is there nobody who knows this}?",
)
ORDER = (
    "{Where is|What is the state of|When will I get} order {#|no. |}{4|5|6}{0|2|7|9}{1|3|5|8}{2|4|6}{0|7|9}?",
    "{A customer asks for|Please check} order #{4|5|6}{1|4|8}{0|3|7}{2|5|9}{1|6|8}{|, she says it was paid|, it should have come on Friday}.",
    "{I want to send back|Please open a return for} order {4|5|6}{0|3|6}{1|4|9}{2|5|7}{3|8}, {the colour is wrong|it arrived broken}.",
)
OTHER = (
    "Can two shops share {stock|one domain|a team}?",
    "Which {photo size|picture format} is best for {products|the front page}?",
    "Does the {theme|editor} support {right-to-left text|dark mode|three columns}?",
    "{My colleague left|We hired two people}, how do I {move his drafts|give them access to orders only}?",
    "Is there {a limit of|a way to sort} {products|categories|tags}?",
)
STATES = ("packed, waiting for the carrier", "handed to the carrier on {Monday|Tuesday|Thursday}", "delivered {yesterday|on Saturday} at {9|11|15}:{10|25|40}", "held: the address is incomplete")  # fmt: skip
REPORT = "{Thanks for the number|I found it}. The order is {packed and waits for the carrier|with the carrier|delivered, says the carrier|held because of its address}. {The tracking link is in the order's page|You get a mail at each step}."
LOG_LINE = "2026-10-{06|09|13} {08|09|10}:{1|2|3|4}{0|3|7}:{0|2|5}{1|4|8} {INFO|WARN|ERROR} worker-{1|2|3} {import line skipped: no title|cart recalculated|webhook answered 500, again in 5 min|slow query on products}"  # fmt: skip

HELLO = "{Hello, and thank you for writing to us.|Hi! Good question.|Thanks for your message.}"
TAIL = "{If that page looks different for you, tell me which plan you are on, and I look again.|You find the same steps with pictures in the help centre.|Only the owner and admins of the shop see this page; a colleague with another role has to ask one of them.} {Is there anything else?|I hope that helps.|Have a good day!}"

KINDS = {"faq": 58, "order": 15, "howto": 8, "urgent": 11, "legal": 4.4, "other": 7, "log": 1.2}


def users(dice: Dice) -> list[User]:
    teams = (
        [("direct", "free")] * 10
        + [("direct", "pro")] * 6
        + [("agency-north", "pro"), ("kontor", "enterprise"), ("bazaar", "enterprise"), ("lumen", "enterprise")]
    )
    found = people(dice, 320, teams, "shop-")
    return [dataclasses.replace(user, about={"region": dice.weighted(("us", "eu"), (6, 4))}) for user in found]


def conversation(dice: Dice, user: User, _: datetime) -> Iterator[Call]:
    kind = dice.weighted(tuple(KINDS), tuple(KINDS.values()))
    if kind == "order":
        yield from _order(dice)
        return
    history: list[Message] = [say("system", _system(dice, kind))]
    for turn, (question, answer) in enumerate(_exchange(dice, kind)):
        history.append(say("user", question))
        escalated = question.startswith(("This did not help", "No, "))
        reply = say("assistant", answer)
        yield Call(
            tuple(history), reply, _pause(dice, turn), max_output=1_000, feature="help_center", about={"escalated": escalated}
        )
        history.append(reply)


def _system(dice: Dice, kind: str) -> str:
    number = {"howto": dice.between(6, 9), "other": dice.between(2, 5)}.get(kind, dice.weighted((1, 2, 3, 4), (3, 4, 2, 1)))
    return "\n\n".join((SYSTEM, *dice.several(ARTICLES, number)))


def _exchange(dice: Dice, kind: str) -> Iterator[tuple[str, str]]:
    """Questions and answers of a conversation without tools."""
    follow: tuple[str, ...] = FOLLOW
    replies: tuple[str, ...] = CLOSING
    match kind:
        case "faq":
            question, answer = dice.pick(FAQ)
        case "howto":
            question, answer, follow, replies = dice.pick(HOWTO), f"{EXPLAIN} {EXPLAIN}", DETAILS, (EXPLAIN,)
        case "urgent":
            question, answer, replies = dice.pick(URGENT), CALM, (CALM,)
        case "legal":
            question, answer, replies = dice.pick(LEGAL), CAREFUL, (CAREFUL,)
        case "log":
            lines = [dice.spin(LOG_LINE) for _ in range(40)]
            pasted = "\n".join(dice.pick(lines) for _ in range(dice.between(180, 320)))
            question, answer = f"What is wrong here?\n{pasted}", EXPLAIN
        case _:
            question, answer = dice.pick(OTHER), EXPLAIN
    yield dice.spin(question), dice.spin(f"{HELLO} {answer} {TAIL}" if kind == "faq" else answer)
    while dice.chance({"faq": 0.26, "howto": 0.66, "urgent": 0.3, "log": 0.0}.get(kind, 0.4)):
        yield dice.spin(dice.pick(follow)), dice.spin(dice.pick(replies))
    if dice.chance({"howto": 0.12, "other": 0.08}.get(kind, 0.015)):
        yield dice.spin(dice.pick(NOT_HELPED)), dice.spin(EXPLAIN)


def _order(dice: Dice) -> Iterator[Call]:
    """A look-up: the call of the tool, sometimes one that fails, and the answer."""
    question = dice.spin(dice.pick(ORDER))
    number = "".join(sign for sign in question if sign.isdigit())
    history: list[Message] = [say("system", _system(dice, "order")), say("user", question)]
    tools = ["create_return" if question.startswith(("I want", "Please open")) else "lookup_order"]
    if dice.chance(0.25):
        tools.append("track_parcel")
    failures = dice.weighted((0, 1, 2), (88, 9, 3))
    queue = [tools[0]] * failures + tools
    for step, tool in enumerate(queue):
        identifier = f"call_{step + 1}"
        ask = calls(identifier, tool, json.dumps({"code": f"SK{number}"} if tool == "track_parcel" else {"order": number}))
        yield Call(
            tuple(history),
            ask,
            _pause(dice, 0) if step else 0,
            TOOLS,
            max_output=1_000,
            feature="orders",
            about={"escalated": False},
        )
        state = json.dumps({"order": number, "state": dice.spin(dice.pick(STATES))})
        content = f"Error: {dice.pick(('the order service timed out', 'no order has this number'))}" if step < failures else state
        history += [ask, result(identifier, tool, content)]
    yield Call(
        tuple(history),
        say("assistant", dice.spin(REPORT)),
        2.5,
        TOOLS,
        max_output=1_000,
        feature="orders",
        about={"escalated": False},
    )


def _pause(dice: Dice, turn: int) -> float:
    return round(dice.around(55, 0.7), 3) if turn else round(dice.around(3, 0.3), 3)


WORKLOAD = Workload(
    "support", 20_261_005, 2_400, users,
    (("anthropic", "claude-sonnet-4-5", 0.80), ("openai", "gpt-4o", 0.16), ("openai", "gpt-4o-mini", 0.04)),
    conversation, ("region", "escalated"), frozenset({"gpt-4o", "gpt-4o-mini"}),
)  # fmt: skip
