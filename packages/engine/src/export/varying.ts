/**
 * Constants of a trace that the sizes decide. What each trace holds in one place of the graph is, in the order of trial,
 *
 *   the same in all of them     a constant
 *   integers of one shape       polynomials of the sizes, computed in the graph
 *   a triangle                  zeros, and one number above the diagonal [.., tokens, tokens]: made in the graph
 *   a part of a table           cut out of the constant that the trace of the most tokens holds: its front, middle or back
 */
import type { ConstantData, GraphConstant, GraphNode } from '../compiled/graph.js';
import { equalNumbers, notOpen, type OpenGraph } from './open-graph.js';
import { fitted, type Polynomial, type Sizes } from './sizes.js';

/** What stands in one place of the graph in every trace; the last trace is the one of the most tokens. */
interface Place {
  readonly constants: readonly GraphConstant[];
  readonly sizes: readonly Sizes[];
  readonly node: Pick<GraphNode, 'op'>;
}

/** The name of the value that takes the place of these constants. @throws EngineError when they have nothing in common. */
export function unified(graph: OpenGraph, place: Place): string {
  const [first, ...others] = place.constants as [GraphConstant, ...GraphConstant[]];
  if (others.every(({ dtype }) => dtype === first.dtype)) {
    if (others.every((other) => sameShape(first, other))) {
      if (others.every(({ data }) => equalNumbers(first.data, data))) return graph.constant(first);
      const numbers = computed(graph, place);
      if (numbers !== undefined) return numbers;
    } else {
      const table = triangle(graph, place) ?? part(graph, place);
      if (table !== undefined) return table;
    }
  }
  throw notOpen(`nothing is known of how the sizes decide the ${first.dtype} [${first.shape.join(', ')}]`, place.node);
}

/** Integers of one shape, each a polynomial. */
function computed(graph: OpenGraph, { constants, sizes }: Place): string | undefined {
  const [first] = constants as [GraphConstant];
  const polynomials = fittedEach(
    constants.map(({ data }) => Array.from(data, Number)),
    sizes,
  );
  if (polynomials === undefined) return undefined;
  const vector = graph.vector(polynomials); // int64 [n]
  const isVector = first.shape.length === 1;
  const shaped = isVector ? vector : graph.node('Reshape', [vector, graph.integers(first.shape)]);
  return first.dtype === 'int64' ? shaped : graph.cast(shaped, first.dtype);
}

/** [.., tokens, tokens] that is 0 up to the diagonal and one number above it. */
function triangle(graph: OpenGraph, { constants, sizes }: Place): string | undefined {
  const [first] = constants as [GraphConstant];
  const above = first.data[1];
  const isTriangle = constants.every(({ shape, data }, trace) => {
    const tokens = sizes[trace]?.tokens;
    const isSquare = shape.length >= 2 && shape.slice(-2).every((dim) => dim === tokens);
    return isSquare && tokens !== undefined && holdsTriangle(data, tokens, above);
  });
  const dims = isTriangle ? shapeOf(constants, sizes) : undefined;
  if (dims === undefined) return undefined;
  const one = graph.constant({ dtype: first.dtype, shape: [], data: first.data.slice(1, 2) });
  const square = graph.node('Expand', [one, graph.vector(dims)]);
  return graph.node('Trilu', [square, diagonalAbove(graph)], { upper: 1 });
}

function diagonalAbove(graph: OpenGraph): string {
  return graph.constant({ dtype: 'int64', shape: [], data: BigInt64Array.of(1n) });
}

function holdsTriangle(data: ConstantData, tokens: number, above: number | bigint | undefined): boolean {
  return (data as Float32Array).every((value, at) => {
    const [row, column] = [Math.floor(at / tokens) % tokens, at % tokens];
    return Object.is(value, column > row ? above : 0);
  });
}

/** Where a part may lie within the axes of a table that are longer than its own: how many of the rest come before it. */
const POSITIONS: readonly ((rest: number) => number)[] = [() => 0, (rest) => rest / 2, (rest) => rest];

/** A part of the table of the most tokens. */
function part(graph: OpenGraph, { constants, sizes }: Place): string | undefined {
  const table = constants.at(-1) as GraphConstant;
  if (!constants.every(({ shape }) => shape.length === table.shape.length)) return undefined;
  for (const before of POSITIONS) {
    const starts = constants.map(({ shape }) => shape.map((dim, axis) => before((table.shape[axis] as number) - dim)));
    const isPart = constants.every((constant, trace) => isPartOf(table, constant, starts[trace] as number[]));
    if (isPart) return cut(graph, { constants, sizes }, starts);
  }
  return undefined;
}

function cut(
  graph: OpenGraph,
  { constants, sizes }: Omit<Place, 'node'>,
  starts: readonly (readonly number[])[],
): string | undefined {
  const [first, table] = [constants[0], constants.at(-1)] as [GraphConstant, GraphConstant];
  const axes = table.shape.flatMap((_, axis) =>
    constants.every(({ shape }) => shape[axis] === first.shape[axis]) ? [] : [axis],
  );
  const along = (rows: readonly (readonly number[])[]) => rows.map((row) => axes.map((axis) => row[axis] as number));
  const ends = starts.map((row, trace) => row.map((start, axis) => start + (constants[trace]?.shape[axis] as number)));
  const [from, to] = [fittedEach(along(starts), sizes), fittedEach(along(ends), sizes)];
  if (from === undefined || to === undefined) return undefined;
  return graph.node('Slice', [graph.constant(table), graph.vector(from), graph.vector(to), graph.integers(axes)]);
}

/** Whether a constant is what stands in a table from `start` on. */
function isPartOf(table: GraphConstant, { shape, data }: GraphConstant, start: readonly number[]): boolean {
  if (!start.every((place, axis) => Number.isInteger(place) && place >= 0 && place <= (table.shape[axis] as number))) {
    return false;
  }
  const at = shape.map(() => 0);
  return (data as Float32Array).every((value) => {
    const place = at.reduce(
      (sum, index, axis) => sum * (table.shape[axis] as number) + index + (start[axis] as number),
      0,
    );
    for (let axis = at.length - 1; axis >= 0; axis--) {
      at[axis] = ((at[axis] as number) + 1) % (shape[axis] as number);
      if (at[axis] !== 0) break;
    }
    return Object.is(value, table.data[place]);
  });
}

function shapeOf(constants: readonly GraphConstant[], sizes: readonly Sizes[]): Polynomial[] | undefined {
  return fittedEach(
    constants.map(({ shape }) => shape),
    sizes,
  );
}

/** For each place of rows of one length, one row a trace, its polynomial; undefined unless all have one. */
export function fittedEach(rows: readonly (readonly number[])[], sizes: readonly Sizes[]): Polynomial[] | undefined {
  const [first] = rows as [readonly number[]];
  const polynomials = first.map((_, place) =>
    fitted(
      rows.map((row) => row[place] as number),
      sizes,
    ),
  );
  return polynomials.every((polynomial) => polynomial !== undefined) ? polynomials : undefined;
}

function sameShape(a: GraphConstant, b: GraphConstant): boolean {
  return a.shape.length === b.shape.length && a.shape.every((dim, axis) => dim === b.shape[axis]);
}
