import { mapValues } from '@peftjs/core/method';
import type { TensorSpec } from '@peftjs/core/model';
import { namedAxes, type Axis, type InputSpec } from '@peftjs/core/runtime';

/** The specs of a function's inputs. */
export type Specs = Readonly<Record<string, InputSpec>>;

/** The size of each named axis. */
export type Sizes = Readonly<Record<string, number>>;

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
