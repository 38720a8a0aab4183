/**
 * The parts of '@huggingface/jinja' that a chat template needs, and the kinds of its values. They are declared here
 * because the package exports neither its syntax tree nor its values.
 */

/** A value in a running template. */
export type Value =
  | { readonly type: 'StringValue'; readonly value: string }
  | { readonly type: 'IntegerValue' | 'FloatValue'; readonly value: number }
  | { readonly type: 'BooleanValue'; readonly value: boolean }
  | { readonly type: 'NullValue'; readonly value: null }
  | { readonly type: 'UndefinedValue'; readonly value: undefined; hint?: string }
  | List
  | Mapping
  | { readonly type: 'NamespaceValue'; readonly value: Map<string, Value> }
  | { readonly type: 'FunctionValue'; readonly value: Callable };

/** A list or a tuple. */
export interface List {
  readonly type: 'ArrayValue' | 'TupleValue';
  readonly value: readonly Value[];
}

/** A dictionary, or the keyword arguments of a call, which are the last of its arguments. */
export interface Mapping {
  readonly type: 'ObjectValue' | 'KeywordArgumentsValue';
  readonly value: ReadonlyMap<string, Value>;
}

/** A function that a template can call. */
export type Callable = (args: readonly Value[], scope: Scope) => Value;

/** The variables of a block; the library's `Environment`. */
export interface Scope {
  readonly variables: Map<string, Value>;
  readonly parent?: Scope;
}

/** A token of a template's source. `within` names the innermost bracket around it. */
export interface Token {
  readonly type: string;
  readonly value: string;
  readonly within?: number;
}

/** A node of the syntax tree. Its other fields depend on its type. */
export interface Node {
  readonly type: string;
}

/** The library's interpreter, with the methods that are replaced. */
export interface Interpreter {
  evaluate(node: Node | undefined, scope: Scope): Value;
  evaluateBlock(body: readonly Node[], scope: Scope): Value;
  evaluateArguments(args: readonly Node[], scope: Scope): [positional: Value[], named: Map<string, Value>];
}

/** The library. */
export interface Jinja {
  readonly Environment: new (parent?: Scope) => Scope & { set(name: string, value: unknown): Value };
  readonly Interpreter: new (scope: Scope) => Interpreter;
  parse(tokens: readonly Token[]): Node;
}

/** Creates values. */
export interface Makers {
  readonly text: (value: string) => Value;
  readonly integer: (value: number) => Value;
  readonly float: (value: number) => Value;
  readonly truth: (value: boolean) => Value;
  readonly none: Value;
  /** An undefined value; the hint is its error message if it is used. */
  readonly missing: (hint?: string) => Value;
  readonly list: (value: readonly Value[]) => Value;
  readonly tuple: (value: readonly Value[]) => Value;
  readonly mapping: (value: ReadonlyMap<string, Value>) => Value;
  readonly namespace: (value: ReadonlyMap<string, Value>) => Value;
  readonly callable: (value: Callable) => Value;
}

type Class = new (value?: unknown) => Value;

/** Returns the makers of the library's values, whose classes can only be taken from values. */
export function makersOf({ Environment, Interpreter }: Jinja): Makers {
  const scope = new Environment();
  const classOf = (value: Value): Class => value.constructor as Class;
  const like = (name: string, sample: unknown): Class => classOf(scope.set(name, sample));
  const [Text, Integer, Float, Truth] = [like('s', ''), like('i', 0), like('f', 0.5), like('b', true)];
  const [None, Missing, List, Dict] = [like('n', null), like('u', undefined), like('l', []), like('d', {})];
  const Function = like('c', () => null);
  const Tuple = classOf(new Interpreter(scope).evaluate({ type: 'TupleLiteral', value: [] } as Node, scope));
  const namespace = scope.variables.get('namespace') as Extract<Value, { type: 'FunctionValue' }>;
  const Namespace = classOf(namespace.value([], scope));
  return {
    text: (value) => new Text(value),
    integer: (value) => new Integer(value),
    float: (value) => new Float(value),
    truth: (value) => new Truth(value),
    none: new None(null),
    missing: (hint) => Object.assign(new Missing(), { hint }),
    list: (value) => new List(value),
    tuple: (value) => new Tuple(value),
    mapping: (value) => new Dict(value),
    namespace: (value) => new Namespace(value),
    callable: (value) => new Function(value),
  };
}
