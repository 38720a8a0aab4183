import { mapValues } from '@peftjs/core/method';
import type { TensorSpec } from '@peftjs/core/model';
import type { Axis, InputSpec } from '@peftjs/core/runtime';

/** The specs of a function's inputs. */
export type Specs = Readonly<Record<string, InputSpec>>;

/** The size of each named axis. */
export type Sizes = Readonly<Record<string, number>>;

/** One term of a named axis: an axis by its name ('batch'), or a multiple of one ('2*batch'). */
export interface NamedAxis {
  /** The name of the axis, e.g. 'batch'. */
  readonly name: string;
  /** The multiple of its size, a positive integer. */
  readonly factor: number;
}

/** Splits an axis into the terms that it is the sum of: 'batch', '2*batch' or 'past + tokens'. */
export function namedAxes(axis: string): [NamedAxis, ...NamedAxis[]] {
  return axis.split(' + ').map((term) => {
    const [, factor, name] = /^([1-9]\d*)\*(.+)$/.exec(term) ?? [];
    return name === undefined ? { name: term, factor: 1 } : { name, factor: Number(factor) };
  }) as [NamedAxis, ...NamedAxis[]];
}

/** Returns the names of all axes, in the order of the inputs. */
export function axisNames(specs: Specs): string[] {
  const axes = Object.values(specs).flatMap(({ shape }) => shape.filter((axis) => typeof axis === 'string'));
  return [...new Set(axes.flatMap((axis) => namedAxes(axis).map(({ name }) => name)))];
}

/** Returns the specs with every named axis replaced by its size. */
export function sizedSpecs(specs: Specs, sizes: Sizes): Record<string, TensorSpec> {
  return mapValues(specs, ({ dtype, shape }) => ({ dtype, shape: shape.map((axis) => sizeOfAxis(axis, sizes)) }));
}

function sizeOfAxis(axis: Axis, sizes: Sizes): number {
  if (typeof axis === 'number') return axis;
  return namedAxes(axis).reduce((sum, { name, factor }) => sum + factor * (sizes[name] as number), 0);
}
