import type { TensorSpec } from '@peftjs/core/method';
import type { Axis, InputSpec } from '@peftjs/core/runtime';

/** The specs of a function's inputs. */
export type Specs = Readonly<Record<string, InputSpec>>;

/** The size of each named axis. */
export type Sizes = Readonly<Record<string, number>>;

/** A named axis as a shape has it: 'batch', or a multiple of it, '2*batch'. An axis may be a sum of them, 'past + tokens'. */
export interface NamedAxis {
  readonly name: string;
  readonly factor: number;
}

/** What an axis without a size of its own is the sum of. */
export function namedAxes(axis: string): [NamedAxis, ...NamedAxis[]] {
  return axis.split(' + ').map((term) => {
    const [, factor, name] = /^([1-9]\d*)\*(.+)$/.exec(term) ?? [];
    return name === undefined ? { name: term, factor: 1 } : { name, factor: Number(factor) };
  }) as [NamedAxis, ...NamedAxis[]];
}

/** The names of the axes, in the order in which the inputs have them. */
export function axisNames(specs: Specs): string[] {
  const axes = Object.values(specs).flatMap(({ shape }) => shape.filter((axis) => typeof axis === 'string'));
  return [...new Set(axes.flatMap((axis) => namedAxes(axis).map(({ name }) => name)))];
}

/** The specs at given sizes. */
export function sizedSpecs(specs: Specs, sizes: Sizes): Record<string, TensorSpec> {
  return Object.fromEntries(
    Object.entries(specs).map(([key, { dtype, shape }]) => [
      key,
      { dtype, shape: shape.map((axis) => sizeOfAxis(axis, sizes)) },
    ]),
  );
}

function sizeOfAxis(axis: Axis, sizes: Sizes): number {
  if (typeof axis === 'number') return axis;
  return namedAxes(axis).reduce((sum, { name, factor }) => sum + factor * (sizes[name] as number), 0);
}
