import type { SizePoint } from '../messages.js';
import { scalesOf, type Frame, type Range, type Scales } from './curve.js';

/** Returns the stages sorted by parameters, largest first. */
export function sizesInOrder(sizes: readonly SizePoint[]): SizePoint[] {
  return [...sizes].sort((a, b) => b.parameters - a.parameters);
}

/** Returns the scales of the size chart: parameters on a logarithmic axis, largest at the left, and percentages. */
export function sizeScales(frame: Frame, ordered: readonly SizePoint[], range: Range): Scales {
  const logs = ordered.map(({ parameters }) => Math.log(Math.max(1, parameters)));
  const [most, least] = [Math.max(...logs), Math.min(...logs)];
  const { x, y } = scalesOf(frame, 1, range);
  return { x: (parameters) => x((most - Math.log(Math.max(1, parameters))) / Math.max(1e-9, most - least)), y };
}
