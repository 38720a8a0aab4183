import type { ModelFile, Node } from './format/model.js';
import { operators } from './operators/index.js';
import { TYPES, typeNumbered, type Constant, type Kind } from './format/tensor.js';

/**
 * Returns the kinds of the values of a graph, where they are known before it is computed.
 * @param nodes in the order of computation
 */
export function kindsIn({ constants, inputs }: ModelFile, nodes: readonly Node[]): ReadonlyMap<string, Kind> {
  const kinds = new Map<string, Kind>();
  for (const { name, type } of constants.values()) kinds.set(name, TYPES[type].kind);
  for (const { name, type } of inputs) if (type !== undefined) kinds.set(name, TYPES[type].kind);
  for (const node of nodes) {
    const kind = kindMade(node, kinds);
    if (kind !== undefined) for (const output of node.outputs) kinds.set(output, kind);
  }
  return kinds;
}

/** Operators whose result has the kind of their second input. */
const AS_SECOND: ReadonlySet<string> = new Set(['Where', 'CastLike']);

function kindMade({ op, domain, inputs, attributes }: Node, kinds: ReadonlyMap<string, Kind>): Kind | undefined {
  if (domain !== '') return undefined;
  const known = Object.hasOwn(operators, op) ? operators[op]?.kind : undefined;
  if (known !== undefined) return known;
  if (op === 'Cast') return TYPES[typeNumbered(Number(attributes['to']), 'a Cast')].kind;
  if (op === 'ConstantOfShape') return TYPES[(attributes['value'] as Constant | undefined)?.type ?? 'float32'].kind;
  return kinds.get(inputs[AS_SECOND.has(op) ? 1 : 0] ?? '');
}
