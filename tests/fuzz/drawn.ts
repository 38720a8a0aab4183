/** Returns how many of the cases that a test may draw it draws: one in five, or all with PEFTJS_DRAWS=all, as every night. */
export function drawn(all: number): number {
  return process.env['PEFTJS_DRAWS'] === 'all' ? all : Math.ceil(all / 5);
}
