import type { Node } from '../format/model.js';
import type { Graph } from '../graph.js';
import { numberIn, numbersIn } from '../operators/operator.js';

/** The values that the names of a pattern stand for. */
export type Bindings = Readonly<Record<string, string>>;

/** A number, the name of a value, a node, or alternatives. */
type Pattern = number | string | { readonly op: string; readonly of: Pattern[] } | { readonly any: Pattern[] };

/**
 * Returns a function that matches a value, e.g. with `Mul(x, {Sigmoid(x) | 0.5})`: nodes by their operators, in either
 * order where they commute, constants within 0.1 %, and values by lower-case names, each of which stands for one value.
 * A ReduceMean is one over the last axis.
 */
export function pattern(text: string): (graph: Graph, value: string) => Bindings | undefined {
  const parsed = parse(text.match(/[\w.]+|[(){}]/g) ?? []);
  return (graph, value) => matched(graph, value, parsed, {});
}

function parse(tokens: string[]): Pattern {
  const token = tokens.shift() ?? '';
  if (token === '{') return { any: listed(tokens, '}') };
  if (/^\d/.test(token)) return Number(token);
  if (tokens[0] !== '(') return token;
  tokens.shift();
  return { op: token, of: listed(tokens, ')') };
}

function listed(tokens: string[], end: string): Pattern[] {
  const items: Pattern[] = [];
  while (tokens[0] !== end) items.push(parse(tokens));
  tokens.shift();
  return items;
}

function matched(graph: Graph, value: string, one: Pattern, bound: Bindings): Bindings | undefined {
  if (typeof one === 'number') return isClose(graph.number(value), one) ? bound : undefined;
  if (typeof one === 'string') {
    const known = bound[one];
    return known === undefined ? { ...bound, [one]: value } : isSame(graph, known, value) ? bound : undefined;
  }
  if ('any' in one) return first(one.any, (each) => matched(graph, value, each, bound));
  const node = graph.made(value, one.op);
  if (!node || (one.op === 'ReduceMean' && !isOverLastAxis(graph, node))) return undefined;
  const inputs = ['Add', 'Mul'].includes(one.op) ? [node.inputs, node.inputs.toReversed()] : [node.inputs];
  return first(inputs, (given) =>
    one.of.reduce<Bindings | undefined>(
      (found, each, place) => found && matched(graph, given[place] ?? '', each, found),
      bound,
    ),
  );
}

function first<T, R>(items: readonly T[], match: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = match(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Matches the two operands of a node that commutes, in either order. */
export function either<T>([a, b]: readonly string[], match: (a: string, b: string) => T | undefined): T | undefined {
  return a === undefined || b === undefined ? undefined : (match(a, b) ?? match(b, a));
}

/** Whether two values are one, or computed by the same operator from the same values. */
function isSame(graph: Graph, a: string, b: string): boolean {
  const [x, y] = [graph.source(a), graph.source(b)];
  if (x === y) return true;
  const [one, other] = [graph.producer(x), graph.producer(y)];
  const isAlike = one?.op === 'Sub' && other?.op === 'Sub'; // exporters compute x - mean(x) twice
  return isAlike && one.inputs.every((name, place) => graph.source(name) === graph.source(other.inputs[place] ?? ''));
}

/** Files have float32 or float16 numbers. */
function isClose(value: number | undefined, to: number): boolean {
  return value !== undefined && Math.abs(value - to) <= 1e-3 * to;
}

function isOverLastAxis(graph: Graph, node: Node): boolean {
  const axes = numbersIn(node, 'axes') ?? graph.constant(node.inputs[1] ?? '')?.numbers();
  return numberIn(node, 'keepdims', 1) === 1 && axes?.join() === '-1';
}
