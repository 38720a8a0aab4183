"""Draws chat templates and conversations for tools/golden/chat.py.

A template is drawn from a grammar of the constructs that chat templates use. Each production names its construct, so
that the fixture can state how often each occurs. A template that Python cannot render is drawn again, and not counted.
"""

from collections import Counter

TEXTS = [
    "plain", " two words ", "\n    four", "it's", 'a "quote"', "Grüße 😀", "\ufeffmark\x85", "\x1ftabs\t", "a<b>&c", "ﬁne ǆ ß",
    "", "x--y--x", "<think>\nwhy\n</think>\n\n  so", "back\\slash", "O'Neil said \"no\"", "UPPER lower", "1,000", "12", " 3.50 ",
]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather in a \"city\"", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "Köln's name"}, "days": {
            "type": "array", "items": {"type": "integer"}, "default": None}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "stop", "description": "Ends <it>", "parameters": {"type": "object", "properties": {}}}},
]
JSON_OPTIONS = ["ensure_ascii=true", "sort_keys=true", "separators=(',', ':')"]
ARGUMENTS = [{"city": "Köln", "days": [1, 2.5], "ok": True, "no": None}, {}, '{"city": "Paris"}', {"items": [[1], {"a": "b"}]}]


def conversation(rng):
    """Draws a conversation and its tools; about half have tools."""
    text = lambda: rng.choice(TEXTS)
    messages = [{"role": "system", "content": text()}] if rng.random() < 0.4 else []
    tools = rng.sample(TOOLS, rng.randint(1, 2)) if rng.random() < 0.5 else None
    for turn in range(rng.randint(1, 3)):
        messages.append({"role": "user", "content": text()})
        if tools and rng.random() < 0.6:
            call = {"type": "function", "function": {"name": rng.choice(tools)["function"]["name"], "arguments": rng.choice(ARGUMENTS)}}
            call = {"id": f"call{turn}", **call} if rng.random() < 0.7 else call
            asked = {"role": "assistant", "tool_calls": [call]}
            messages.append(asked if rng.random() < 0.6 else {**asked, "content": rng.choice([None, text()])})
            messages.append({"role": "tool", "tool_call_id": f"call{turn}", "name": call["function"]["name"], "content": text()})
        answer = {"role": "assistant", "content": text()}
        if rng.random() < 0.3:
            answer[rng.choice(["reasoning_content", "thinking"])] = text()
        if turn < 2 or rng.random() < 0.5:
            messages.append(answer)
    return messages, tools


class Drawing:
    """One template in the making: its text, and the constructs that it has used."""

    def __init__(self, rng):
        self.rng = rng
        self.used = Counter()
        self.names = 0

    def pick(self, options):
        """Draws one of (construct, text or function) and notes it."""
        name, made = self.rng.choice(options)
        self.used[name] += 1
        return made() if callable(made) else made

    def name(self):
        self.names += 1
        return f"v{self.names}"

    def literal(self):
        return self.pick([
            ("'text'", lambda: self.rng.choice(["'a'", "'<|im_end|>'", "' [INST] '", "'é'", "''"])),
            ('"text"', lambda: self.rng.choice(['"it\'s"', '"\\n"'])),
            ("escapes", lambda: self.rng.choice(["'\\n\\n'", "'\\t\\'q\\''", "'\\u00e9\\x41'", "'\\\\d'", "'\\d'"])),
        ])

    def content(self):
        """A text of the conversation."""
        return self.pick([
            ("message.field", "(message.content or '')"),
            ("message['field']", "(message['content'] or 'none')"),
            ("get", "(message.get('content', 'x')|string)"),
            ("role", "message.role"),
            ("reasoning_content", "(message.reasoning_content or '')"),
            ("messages[0]", "(messages[0]['content']|string)"),
            ("messages[-1]", "messages[-1].role"),
            ("tool_call_id", "(message.tool_call_id or '')"),
            ("message.name", "(message.name|default('nobody'))"),
        ])

    def text(self, depth=2):
        if depth == 0:
            return self.rng.choice([self.literal, self.content])()
        t = lambda: f"({self.text(depth - 1)})"
        chars = lambda: self.rng.choice(["'\\n'", "' '", "'xy-'", "'\"'", "'\\ufeff'"])
        return self.pick([
            ("literal", self.literal), ("content", self.content), ("content", self.content),
            ("+ texts", lambda: f"({t()} + {t()})"),
            ("~", lambda: f"({t()} ~ {self.rng.choice([self.number, self.truth, self.items, t])()})"),
            ("text * n", lambda: f"({t()} * 2)"),
            ("ternary", lambda: f"({t()} if {self.truth()} else {t()})"),
            ("trim", lambda: f"{t()}|trim"), ("upper", lambda: f"{t()}|upper"), ("lower", lambda: f"{t()}|lower"),
            ("title", lambda: f"{t()}|title"), ("capitalize", lambda: f"{t()}|capitalize"),
            ("|replace", lambda: f"{t()}|replace('a', {t()})"), ("indent", lambda: f"{t()}|indent({self.rng.choice(['', '2', 'width=3, first=true'])})"),
            ("default", lambda: f"({self.name()}|default({t()}))"), ("default true", lambda: f"({t()}|default('empty', true))"),
            ("safe", lambda: f"{t()}|safe"), ("string", lambda: f"{self.rng.choice([self.number, self.truth, self.items])()}|string"),
            ("tojson", lambda: f"{self.rng.choice([t, self.number, self.truth, self.items, self.mapping])()}|tojson"),
            ("tojson(indent)", lambda: f"{self.rng.choice([self.items, self.mapping])()}|tojson(indent={self.rng.randint(0, 4)})"),
            ("tojson(options)", lambda: f"{self.mapping()}|tojson({self.rng.choice(JSON_OPTIONS)})"),
            ("|join", lambda: f"{self.items()}|join({self.rng.choice(['', repr(', ')])})"),
            (".strip()", lambda: f"{t()}.strip()"), (".lstrip()", lambda: f"{t()}.lstrip()"), (".rstrip()", lambda: f"{t()}.rstrip()"),
            (".strip(x)", lambda: f"{t()}.strip({chars()})"), (".lstrip(x)", lambda: f"{t()}.lstrip({chars()})"), (".rstrip(x)", lambda: f"{t()}.rstrip({chars()})"),
            (".upper()", lambda: f"{t()}.upper()"), (".lower()", lambda: f"{t()}.lower()"),
            (".title()", lambda: f"{t()}.title()"), (".capitalize()", lambda: f"{t()}.capitalize()"),
            (".replace()", lambda: f"{t()}.replace({chars()}, {t()})"), (".join()", lambda: f"', '.join({self.words()})"),
            ("split[i]", lambda: f"{t()}.split({self.rng.choice(['', chars(), repr('</think>')])})[{self.rng.choice(['0', '-1'])}]|string"),
            ("text[i:j]", lambda: f"{t()}[{self.rng.choice(['1:', ':-1', ':3', '::-1', '1:4:2', '-2:'])}]"),
            ("text[i]", lambda: f"({t()}[{self.rng.choice(['0', '-1'])}]|string)"),
            (".format()", lambda: f"'<{{}}>'.format({t()})"),
            ("strftime_now", lambda: f"strftime_now({self.rng.choice([repr('%d %b %Y'), repr('%Y-%m-%d')])})"),
            ("bos_token", "bos_token"),
        ])

    def words(self):
        """A list of texts."""
        return self.pick([
            ("split()", lambda: f"({self.text(0)}).split()"), ("split(x, n)", lambda: f"({self.text(0)}).split(' ', 1)"), ("rsplit", lambda: f"({self.text(0)}).rsplit('-', 1)"),
            ("splitlines", lambda: f"({self.text(0)}).splitlines()"), ("map(attribute)", "messages|map(attribute='role')|list"),
            ("list of texts", lambda: f"[{self.text(0)}, {self.text(0)}]"), ("keys", "message.keys()|list"),
        ])

    def items(self):
        """A list."""
        return self.pick([
            ("list", lambda: f"[{self.text(0)}, {self.number()}, {self.rng.choice(['none', 'true', 'false', '1.5', '[]', '1e16', '0.00001'])}]"),
            ("words", self.words), ("+ lists", lambda: f"({self.words()} + [1, none])"), ("list[i:j]", lambda: f"({self.words()})[{self.rng.choice(['1:', ':1', '::-1'])}]"),
            ("range", lambda: f"range({self.rng.choice(['3', '1, 4', '5, 0, -2'])})|list"), ("reverse", lambda: f"{self.words()}|reverse|list"),
            ("sort", lambda: f"{self.words()}|sort({self.rng.choice(['', 'reverse=true', 'case_sensitive=true'])})"), ("unique", lambda: f"{self.words()}|unique|list"),
            ("map(filter)", lambda: f"{self.words()}|map('{self.rng.choice(['upper', 'trim', 'length'])}')|list"),
            ("select", lambda: f"{self.words()}|select|list"), ("reject", lambda: f"{self.words()}|reject('equalto', 'user')|list"),
            ("selectattr", lambda: f"messages|selectattr('role', '{self.rng.choice(['equalto', '==', 'eq'])}', 'user')|map(attribute='content')|list"),
            ("rejectattr", "messages|rejectattr('role', 'in', ['user', 'system'])|map(attribute='role')|list"), ("values", "message.values()|list"),
            ("dictsort", "message|dictsort|list"), ("|items", "message|items|list"), (".items()", "message.items()|list"), ("tuple", lambda: f"({self.text(0)}, 1)"),
        ])

    def mapping(self):
        return self.pick([
            ("dict", lambda: f"{{'a': {self.text(0)}, 'b': {self.number()}, 'c': none, 'd': [true, 0.5]}}"),
            ("message", "message"), ("tools[0]", "(tools[0] if tools else {})"), ("tools", "{'tools': tools}"),
        ])

    def number(self):
        return self.pick([
            ("integer", lambda: str(self.rng.randint(0, 9))), ("length", lambda: f"{self.rng.choice([self.literal, self.content, self.words])()}|length"),
            ("count", "messages|count"), ("+", "(1 + messages|length)"), ("-", "(3 - messages|length)"), ("*", "(2 * 3)"), ("//", "(-7 // 2)"), ("%", "(-7 % 3)"), ("/", "(7 / 2)"), ("**", "2 ** 3"),
            ("int", lambda: f"({self.text(0)})|int"), ("float", lambda: f"'{self.rng.choice(['1.50', 'x', '1e3', ' 2'])}'|float"), ("abs", "(-3)|abs"),
            ("find", lambda: f"({self.text(0)}).find('e')"), (".count()", lambda: f"({self.text(0)}).count('a')"),
            ("loop.index", "loop.index"), ("loop.index0", "loop.index0"), ("loop.length", "loop.length"), ("loop.revindex", "loop.revindex"),
        ])

    def truth(self):
        name = lambda: self.rng.choice(["message.content", "message.tool_calls", "message.nothing", "tools", "loop.first", "message", "1", "messages", "true", "unknown"])
        is_test = lambda test: (f"is {test}", lambda: f"({name()} is {test})")
        return self.pick([
            *[is_test(test) for test in ("defined", "not defined", "none", "not none", "string", "mapping", "iterable", "sequence", "true", "false", "boolean", "number", "integer", "undefined")],
            ("==", lambda: f"({self.content()} == {self.literal()})"), ("!=", "(message.role != 'user')"), ("<", lambda: f"({self.number()} < 3)"), (">", "(messages|length > 2)"), ("<=", "(loop.index <= 2)"), (">=", "(loop.index0 >= 1)"),
            ("a < b < c", "(0 < loop.index < 3)"), ("== lists", lambda: f"({self.words()} == {self.words()})"),
            ("in text", lambda: f"({self.literal()} in {self.content()})"), ("in list", "(message.role in ['user', 'tool'])"), ("in dict", "('tool_calls' in message)"), ("not in", "('content' not in message)"),
            ("and", lambda: f"({self.truth0()} and {self.truth0()})"), ("or", lambda: f"({self.truth0()} or {self.truth0()})"), ("not", lambda: f"(not {self.truth0()})"),
            ("startswith", lambda: f"({self.content()}).startswith({self.literal()})"), ("endswith", lambda: f"({self.content()}).endswith(({self.literal()}, 'x'))"),
            ("loop.first", "loop.first"), ("loop.last", "loop.last"), ("loop.previtem", "(loop.previtem and loop.previtem.role == 'user')"), ("loop.nextitem", "(loop.nextitem is defined)"),
            ("is even", "(loop.index is even)"), ("is odd", "(loop.index0 is odd)"), ("is divisibleby", "([loop.index]|select('divisibleby', 2)|list|length > 0)"), ("add_generation_prompt", "add_generation_prompt"),
        ])

    def truth0(self):
        return self.rng.choice(["loop.first", "message.content", "tools", "message.role == 'assistant'", "message.tool_calls is defined"])

    def tag(self, code):
        """A statement, with or without control of the blanks around it."""
        left, right = self.rng.choice(["", "", "-"]), self.rng.choice(["", "", "-"])
        if left or right:
            self.used["{%- -%}"] += 1
        return f"{self.rng.choice(['', '    '])}{{%{left} {code} {right}%}}{self.rng.choice(['', chr(10)])}"

    def out(self, code):
        left, right = self.rng.choice(["", "-"]), self.rng.choice(["", "-"])
        if left or right:
            self.used["{{- -}}"] += 1
        return f"{{{{{left} {code} {right}}}}}"

    def statement(self, depth=2):
        body = lambda: self.body(depth - 1)
        simple = [
            ("{{ text }}", lambda: self.out(self.text())), ("{{ text }}", lambda: self.out(self.text())), ("{{ text }}", lambda: self.out(self.text())),
            ("{{ number }}", lambda: self.out(self.number())), ("{{ truth }}", lambda: self.out(self.truth())), ("{{ list }}", lambda: self.out(self.items())),
            ("{{ dict }}", lambda: self.out(self.mapping())), ("{{ none }}", lambda: self.out(self.rng.choice(["none", "message.nothing", "tools", "1e22", "-0.0", "1.0"]))),
            ("comment", lambda: f"{{#{self.rng.choice(['-', ''])} a %}} note {self.rng.choice(['-', ''])}#}}\n"), ("raw text", lambda: self.rng.choice(["<|x|>", "\n\n", "a\n  ", "{ }"])),
            ("tool_calls", lambda: self.loop_tool_calls()), *[("loop over tools", lambda: self.loop_tools())] * 2,
        ]
        if depth == 0:
            return self.pick(simple)
        return self.pick(simple * 2 + [
            ("if", lambda: self.tag(f"if {self.truth()}") + body() + self.tag("endif")),
            ("else", lambda: self.tag(f"if {self.truth()}") + body() + self.tag("else") + body() + self.tag("endif")),
            ("elif", lambda: self.tag(f"if {self.truth()}") + body() + self.tag(f"elif {self.truth()}") + body() + self.tag("else") + body() + self.tag("endif")),
            ("set", lambda: self.assigned(depth)), ("set block", lambda: self.assigned_block(depth)), ("namespace", lambda: self.namespaced(depth)),
            ("set a, b", lambda: self.tag(f"set p, q = {self.text(0)}, {self.number()}") + self.out("q") + self.out("p")),
            ("for", lambda: self.tag(f"for item in {self.items()}") + self.out("item") + self.out("loop.index") + self.tag("endfor")),
            ("for if", lambda: self.tag("for m in messages if m.role != 'user'") + self.out("m.role ~ loop.length") + self.tag("endfor")),
            ("for else", lambda: self.tag("for m in messages if m.role == 'ghost'") + "x" + self.tag("else") + body() + self.tag("endfor")),
            ("for k, v", lambda: self.tag(f"for k, v in {self.rng.choice(['message.items()', 'message|items', 'message|dictsort'])}") + self.out("k ~ '=' ~ v") + self.tag("endfor")),
            ("break", lambda: self.tag("for m in messages") + self.out("m.role") + self.tag("if loop.index == 2") + "!" + self.tag("break") + self.tag("endif") + self.tag("endfor")),
            ("continue", lambda: self.tag("for m in messages") + "." + self.tag("if m.role == 'user'") + self.tag("continue") + self.tag("endif") + self.out("m.role") + self.tag("endfor")),
            ("filter block", lambda: self.tag(f"filter {self.rng.choice(['upper', 'trim', 'indent(2)'])}") + body() + self.tag("endfilter")),
            ("generation", lambda: self.tag("generation") + body() + self.tag("endgeneration")),
            ("scope of a loop", lambda: self.scoped()), ("macro call", lambda: self.out(f"show({self.text(1)}, n={self.number()})") if self.rng.random() < 0.7 else self.out(f"show({self.text(0)})")),
            ("recursive macro", lambda: self.out(f"walk({self.items()}, 0)")), ("call", lambda: self.tag("call boxed()") + body() + self.tag("endcall")),
            ("{% raw %}", lambda: self.tag("raw") + "{{ x }}" + self.tag("endraw")),
        ])

    def loop_tool_calls(self):
        arguments = self.pick([("arguments|tojson", "call.function.arguments|tojson"), ("arguments", "call.function.arguments"), ("arguments is string", "call.function.arguments if call.function.arguments is string else call.function.arguments|tojson")])
        return (self.tag("if message.tool_calls") + self.tag("for call in message.tool_calls") + self.out("call.id|default('-')") + self.out("call.function.name") + self.out(arguments) + self.tag("endfor") + self.tag("endif"))

    def loop_tools(self):
        shown = self.pick([("tool|tojson", "tool|tojson"), ("tool|tojson(indent=4)", "tool|tojson(indent=4)"), ("tool.function", "tool.function.name ~ ': ' ~ tool.function.description"), ("properties", "tool.function.parameters.properties|items|list"), ("{{ tool }}", "tool")])
        return self.tag("if tools") + self.tag("for tool in tools") + self.out(shown) + self.tag("endfor") + self.tag("endif")

    def assigned(self, depth):
        name = self.name()
        return self.tag(f"set {name} = {self.rng.choice([self.text, self.number, self.items, self.mapping])()}") + self.body(depth - 1) + self.out(name)

    def assigned_block(self, depth):
        name = self.name()
        return self.tag(f"set {name}") + self.body(depth - 1) + self.tag("endset") + self.out(f"{name}|trim")

    def namespaced(self, depth):
        return (self.tag(f"set ns = namespace(count=0, last={self.text(0)})") + self.tag("for m in messages") + self.tag("set ns.count = ns.count + 1") + self.tag("set ns.last = m.role")
                + self.tag("endfor") + self.out("ns.count") + self.out("ns.last"))

    def scoped(self):
        name = self.name()
        return (self.tag(f"set {name} = 'outer'") + self.tag("for m in messages") + self.tag("if loop.first") + self.tag(f"set {name} = 'inner'") + self.tag("endif") + self.out(name) + self.tag("endfor") + self.out(name))

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.rng.randint(1, 2)))

    MACROS = ("{%- macro show(text, n=2) -%}[{{ text }}:{{ n }}{{ message is defined }}]{%- endmacro -%}"
              "{%- macro walk(all, level) -%}{% for one in all %}{{ level }}{% if one is iterable and one is not string %}({{ walk(one, level + 1) }}){% else %}{{ one }}{% endif %}{% endfor %}{%- endmacro -%}"
              "{%- macro boxed() -%}<{{ caller() }}>{%- endmacro -%}")

    def template(self):
        body = "".join(self.statement() for _ in range(self.rng.randint(1, 3)))
        body += self.out(self.items()) + self.tag(f"if {self.truth()}") + self.out(self.number()) + self.tag(f"elif {self.truth()}") + self.out(self.text()) + self.tag("endif")
        refusal = self.tag("if messages|length > 5 and not tools") + "{{ raise_exception('too long: ' ~ messages|length) }}" + self.tag("endif") if self.rng.random() < 0.1 else ""
        if refusal:
            self.used["raise_exception"] += 1
        macros = self.MACROS if any(name in body for name in ("show(", "walk(", "boxed(")) else ""
        if macros:
            self.used["macro"] += 1
        return macros + self.tag("for message in messages") + refusal + body + self.tag("endfor") + self.rng.choice(["", "\n", "end\n\n"])


def draw(rng):
    """Draws one template. Returns it with the constructs in it."""
    drawing = Drawing(rng)
    return drawing.template(), drawing.used
