import type { Graph } from '../graph.js';

/** Matches the two operands of a node that commutes, in both orders. */
export function either<T>(inputs: readonly string[], match: (a: string, b: string) => T | undefined): T | undefined {
  const [a, b] = inputs;
  return a === undefined || b === undefined ? undefined : (match(a, b) ?? match(b, a));
}

/** Whether two values are one, or computed by the same operator from the same values. */
export function isSame(graph: Graph, a: string, b: string): boolean {
  const [x, y] = [graph.source(a), graph.source(b)];
  if (x === y) return true;
  const [one, other] = [graph.producer(x), graph.producer(y)];
  const isAlike = one?.op === 'Sub' && other?.op === 'Sub'; // exporters compute x - mean(x) twice
  return isAlike && one.inputs.every((name, place) => graph.source(name) === graph.source(other.inputs[place] ?? ''));
}
