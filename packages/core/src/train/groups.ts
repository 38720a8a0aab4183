/** Named things in named groups, e.g. all tensors of a step by kind. */
export type Groups<T> = Readonly<Record<string, Readonly<Record<string, T>>>>;

/** One flat record for an executor: `<group>/<name>`. Group names hold no slash. */
export function flatten<T>(groups: Groups<T>): Record<string, T> {
  const flat: Record<string, T> = {};
  for (const [group, members] of Object.entries(groups)) {
    for (const [name, member] of Object.entries(members)) flat[`${group}/${name}`] = member;
  }
  return flat;
}

/** The groups of a flat record. A group without members is an empty record. */
export function unflatten<T, const G extends string>(
  flat: Readonly<Record<string, T>>,
  groups: readonly G[],
): Record<G, Record<string, T>> {
  const result = new Map<string, Record<string, T>>(groups.map((group) => [group, {}]));
  for (const [key, member] of Object.entries(flat)) {
    const slash = key.indexOf('/');
    const group = result.get(key.slice(0, slash));
    if (group) group[key.slice(slash + 1)] = member;
  }
  return Object.fromEntries(result) as Record<G, Record<string, T>>;
}
