/**
 * Runs templates on the interpreter of '@huggingface/jinja'. Its statements and its evaluation order are kept; what
 * works on values is replaced, because the library's own differs from Python's and is not bounded.
 */
import { Fault, type Budget } from './budget.js';
import { filtered, tested } from './filters.js';
import { makersOf, type Callable, type Interpreter, type Jinja, type Node, type Scope, type Value } from './jinja.js';
import { tokenized } from './lexer.js';
import { checkName, namespaceOf } from './globals.js';
import { memberOf, sliceOf } from './members.js';
import { COMPARISONS, OPERATORS, signed } from './operators.js';
import { textOf } from './printing.js';
import { isMapping, isTrue, itemsOf, typeName, type Runtime } from './values.js';

/** A parsed template. */
export interface Program {
  readonly root: Node;
  /** The length of its source. */
  readonly length: number;
}

/** Parses a template. @throws an Error for a source that is not a template. */
export function parsed(jinja: Jinja, source: string): Program {
  return { root: jinja.parse(tokenized(source)), length: source.length };
}

/** Opens what a rendering works with. */
export function openRuntime(jinja: Jinja, budget: Budget): Runtime {
  return { make: makersOf(jinja), budget, safe: new WeakSet() };
}

/** Renders a template with these variables. @throws an Error for a broken template, a Fault beyond its limits. */
export function rendered(
  jinja: Jinja,
  { root, length }: Program,
  { runtime, variables }: { readonly runtime: Runtime; readonly variables: Readonly<Record<string, Value>> },
): string {
  const scope = new jinja.Environment();
  for (const [name, value] of Object.entries(variables)) scope.variables.set(name, value);
  const interpreter = new jinja.Interpreter(scope);
  const library = interpreter.evaluate.bind(interpreter);
  const machine: Machine = {
    ...runtime,
    length,
    library,
    inner: (parent) => new jinja.Environment(parent),
    evaluate: (node, within) => {
      runtime.budget.items(1);
      const handler = HANDLERS[node?.type ?? ''];
      return handler ? handler(machine, node as never, within) : library(node, within);
    },
  };
  interpreter.evaluate = machine.evaluate;
  interpreter.evaluateBlock = (body, within) => runtime.make.text(block(machine, body, within));
  interpreter.evaluateArguments = (args, within) => argumentsOf(machine, args, within);
  return block(machine, (root as unknown as Body).body, scope);
}

/** A rendering in progress. */
interface Machine extends Runtime {
  /** The length of the source. */
  readonly length: number;
  /** Evaluates a node. */
  readonly evaluate: Interpreter['evaluate'];
  /** Evaluates a node as the library does; its parts are evaluated here. */
  readonly library: Interpreter['evaluate'];
  /** Opens a block in a scope. */
  readonly inner: (parent: Scope) => Scope;
}

interface Body {
  readonly body: readonly Node[];
}

/** Thrown by `break` and `continue`, with the text that its blocks have written. */
class Jump extends Error {
  text = '';

  constructor(readonly isBreak: boolean) {
    super(`'${isBreak ? 'break' : 'continue'}' outside loop`);
  }
}

/** An error takes longer than an expression. */
const JUMP_WORK = 8;

function jump({ budget }: Machine, isBreak: boolean): never {
  budget.items(JUMP_WORK);
  throw new Jump(isBreak);
}

const STATEMENTS: ReadonlySet<string> = new Set(['Set', 'Macro', 'Comment']);

/** Writes the text of a block. */
function block(machine: Machine, body: readonly Node[], scope: Scope): string {
  let text = '';
  for (const node of body) {
    try {
      const value = machine.evaluate(node, scope);
      if (!STATEMENTS.has(node.type)) text += textOf(machine, value);
      machine.budget.length(text.length);
    } catch (error) {
      if (error instanceof Jump) error.text = text + error.text;
      throw error;
    }
  }
  return text;
}

/** What replaces the library's evaluation, by the type of a node. */
const HANDLERS: Readonly<Record<string, (machine: Machine, node: never, scope: Scope) => Value>> = {
  Identifier: variable,
  BinaryExpression: binary,
  UnaryExpression: unary,
  FilterExpression: filterExpression,
  FilterStatement: filterStatement,
  TestExpression: test,
  MemberExpression: member,
  Set: set,
  For: loop,
  Block: (machine, { body }: Body, scope) => machine.make.text(block(machine, body, machine.inner(scope))),
  Macro: macro,
  CallStatement: callStatement,
  Break: (machine) => jump(machine, true),
  Continue: (machine) => jump(machine, false),
};

interface Name extends Node {
  readonly value: string;
}

/** Reads a variable, in the library's scopes, each of which has a `namespace` of the library. */
function variable({ make, budget, ...machine }: Machine, { value: name }: Name, scope: Scope): Value {
  for (let one: Scope | undefined = scope; one; one = one.parent) {
    budget.items(1 / 8);
    const found = one.variables.get(name);
    if (found && name === 'namespace' && found.type === 'FunctionValue')
      return namespaceOf({ make, budget, ...machine });
    if (found) return found;
  }
  return make.missing(`'${name}' is undefined`);
}

interface Binary extends Node {
  readonly operator: { readonly value: string; readonly within?: number };
  readonly left: Node;
  readonly right: Node;
}

function binary(machine: Machine, node: Binary, scope: Scope): Value {
  const { value: sign } = node.operator;
  if (COMPARISONS[sign]) return machine.make.truth(comparison(machine, node, scope).holds);
  const left = machine.evaluate(node.left, scope);
  if (sign === 'and') return isTrue(left) ? machine.evaluate(node.right, scope) : left;
  if (sign === 'or') return isTrue(left) ? left : machine.evaluate(node.right, scope);
  const operator = OPERATORS[sign];
  if (!operator) throw new Fault(`unknown operator ${sign}`);
  return operator(machine, left, machine.evaluate(node.right, scope));
}

/** Compares; `a < b < c` within the same brackets means that both hold. */
function comparison(machine: Machine, node: Binary, scope: Scope): { readonly holds: boolean; readonly last: Value } {
  const { operator, left, right } = node;
  const before = left.type === 'BinaryExpression' ? (left as Binary) : undefined;
  const isChain = before && COMPARISONS[before.operator.value] && before.operator.within === operator.within;
  const start = isChain ? comparison(machine, before, scope) : { holds: true, last: machine.evaluate(left, scope) };
  if (!start.holds) return start;
  const last = machine.evaluate(right, scope);
  return { holds: COMPARISONS[operator.value]?.(machine, start.last, last) ?? false, last };
}

function unary(machine: Machine, node: Node & { operator: Name; argument: Node }, scope: Scope): Value {
  const value = machine.evaluate(node.argument, scope);
  const { value: sign } = node.operator;
  return sign === 'not' ? machine.make.truth(!isTrue(value)) : signed(machine, sign, value);
}

type Filter = Name | (Node & { readonly callee: Name; readonly args: readonly Node[] });

function applied(machine: Machine, filter: Filter, value: Value, scope: Scope): Value {
  if ('value' in filter) return filtered(machine, filter.value, value, []);
  return filtered(machine, filter.callee.value, value, passed(machine, filter.args, scope));
}

/** The arguments of a call as functions take them: the named ones, if there are any, are the last. */
function passed(machine: Machine, args: readonly Node[], scope: Scope): Value[] {
  const [positional, named] = argumentsOf(machine, args, scope);
  return named.size === 0 ? positional : [...positional, { type: 'KeywordArgumentsValue', value: named }];
}

function filterExpression(machine: Machine, node: Node & { operand: Node; filter: Filter }, scope: Scope): Value {
  return applied(machine, node.filter, machine.evaluate(node.operand, scope), scope);
}

function filterStatement(machine: Machine, { body, filter }: Body & { filter: Filter }, scope: Scope): Value {
  const inner = machine.inner(scope);
  return applied(machine, filter, machine.make.text(block(machine, body, inner)), inner);
}

function test(machine: Machine, node: Node & { operand: Node; negate: boolean; test: Name }, scope: Scope): Value {
  const value = machine.evaluate(node.operand, scope);
  return machine.make.truth(tested(machine, node.test.value, [value]) !== node.negate);
}

interface Member extends Node {
  readonly object: Node;
  readonly property: Node;
  readonly computed: boolean;
}

function member(machine: Machine, { object, property, computed }: Member, scope: Scope): Value {
  const owner = machine.evaluate(object, scope);
  if (property.type === 'SliceExpression') {
    const { start, stop, step } = property as Node & Partial<Record<'start' | 'stop' | 'step', Node>>;
    const limits = [start, stop, step].map((one) => one && machine.evaluate(one, scope));
    return sliceOf(machine, owner, limits);
  }
  const isName = !computed && property.type === 'Identifier';
  const key = isName ? machine.make.text((property as Name).value) : machine.evaluate(property, scope);
  return memberOf(machine, owner, { key, isName });
}

/** Assigns. A block that is assigned has its own variables, and names in a namespace begin with a letter. */
function set(
  machine: Machine,
  node: Node & Partial<Body> & { assignee: Node; value: Node | null },
  scope: Scope,
): Value {
  const { assignee, value, body } = node;
  if (assignee.type === 'MemberExpression') checkName(((assignee as Member).property as Name).value);
  return machine.library(value ? node : ({ ...node, value: { type: 'Block', body } } as Node), scope);
}

interface Loop extends Body {
  readonly loopvar: Node;
  readonly iterable: Node;
  readonly defaultBlock: readonly Node[];
}

/** Runs a loop. Each round has its own variables. */
function loop(machine: Machine, { loopvar, iterable, body, defaultBlock }: Loop, scope: Scope): Value {
  const { lhs, test: condition } =
    iterable.type === 'SelectExpression'
      ? (iterable as Node & { lhs: Node; test: Node })
      : { lhs: iterable, test: undefined };
  const all = itemsOf(machine, machine.evaluate(lhs, scope));
  const opened = (item: Value): Scope => {
    const inner = machine.inner(scope);
    assign(machine, loopvar, item, inner);
    return inner;
  };
  const items = condition ? all.filter((item) => isTrue(machine.evaluate(condition, opened(item)))) : all;
  if (items.length === 0) return machine.make.text(block(machine, defaultBlock, machine.inner(scope)));
  let text = '';
  for (const [index, item] of items.entries()) {
    const inner = opened(item);
    inner.variables.set('loop', loopState(machine, items, index));
    try {
      text += block(machine, body, inner);
    } catch (error) {
      if (!(error instanceof Jump)) throw error;
      text += error.text;
      if (error.isBreak) break;
    }
    machine.budget.length(text.length);
  }
  return machine.make.text(text);
}

/** Assigns an item to the variable of a loop, or its items to several. */
function assign(machine: Machine, target: Node, value: Value, scope: Scope): void {
  if (target.type === 'Identifier') {
    scope.variables.set((target as Name).value, value);
    return;
  }
  const targets = (target as Node & { readonly value: readonly Node[] }).value;
  const items = itemsOf(machine, value);
  if (items.length !== targets.length)
    throw new Fault(`expected ${targets.length} values to unpack, got ${items.length}`);
  targets.forEach((one, index) => {
    assign(machine, one, items[index] as Value, scope);
  });
}

/** The variable `loop`. */
function loopState({ make }: Machine, items: readonly Value[], index: number): Value {
  const { length } = items;
  const neighbour = (at: number): Value => items[at] ?? make.missing('there is no such item in the loop');
  return make.namespace(
    new Map([
      ['index', make.integer(index + 1)],
      ['index0', make.integer(index)],
      ['revindex', make.integer(length - index)],
      ['revindex0', make.integer(length - index - 1)],
      ['first', make.truth(index === 0)],
      ['last', make.truth(index === length - 1)],
      ['length', make.integer(length)],
      ['previtem', neighbour(index - 1)],
      ['nextitem', neighbour(index + 1)],
      ['cycle', make.callable((args) => args[index % args.length] ?? make.missing('no items for cycling given'))],
    ]),
  );
}

/** The library searches the bodies of macros for names each time that it defines one. */
const NODES_OF_WORK = 64;

/** Defines a macro, which sees the variables of its place and `caller`, not those of the place that calls it. */
function macro(machine: Machine, node: Node & { readonly name: Name }, scope: Scope): Value {
  machine.budget.items(machine.length / NODES_OF_WORK);
  const nothing = machine.library(node, scope);
  const own = scope.variables.get(node.name.value) as { readonly value: Callable };
  const lexical: Callable = (args, from) => {
    const inner = machine.inner(scope);
    const caller = from.variables.get('caller');
    if (caller) inner.variables.set('caller', caller);
    return own.value(args, inner);
  };
  scope.variables.set(node.name.value, machine.make.callable(lexical));
  return nothing;
}

function callStatement(machine: Machine, node: Node, scope: Scope): Value {
  machine.budget.items(machine.length / NODES_OF_WORK);
  return machine.library(node, scope);
}

type Argument = Node & { readonly key: Name; readonly value: Node; readonly argument: Node };

/** Evaluates the arguments of a call: first those by position, then those by name. */
function argumentsOf(
  machine: Machine,
  args: readonly Node[],
  scope: Scope,
): [positional: Value[], named: Map<string, Value>] {
  const positional: Value[] = [];
  const named = new Map<string, Value>();
  for (const one of args as readonly Argument[]) {
    if (one.type === 'SpreadExpression') {
      for (const item of itemsOf(machine, machine.evaluate(one.argument, scope))) positional.push(item);
    } else if (!one.type.startsWith('Keyword')) positional.push(machine.evaluate(one, scope));
  }
  const add = (name: string, value: Value): void => {
    if (named.has(name)) throw new Fault(`got multiple values for keyword argument '${name}'`);
    named.set(name, value);
  };
  for (const one of args as readonly Argument[]) {
    if (one.type === 'KeywordArgumentExpression') add(one.key.value, machine.evaluate(one.value, scope));
    else if (one.type === 'KeywordSpreadExpression') {
      const given = machine.evaluate(one.argument, scope);
      if (!isMapping(given)) throw new Fault(`argument after ** must be a mapping, not ${typeName(given)}`);
      machine.budget.items(given.value.size);
      given.value.forEach((value, name) => {
        add(name, value);
      });
    }
  }
  return [positional, named];
}
