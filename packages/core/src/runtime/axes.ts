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
