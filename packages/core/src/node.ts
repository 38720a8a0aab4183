/**
 * A built-in module of Node, for the caller to cast: declarations that name Node's types would demand them of users.
 * Undefined in a page. It is not imported, which bundlers of pages would fail to resolve.
 */
export function nodeModule(name: string): unknown {
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): object | undefined } };
  return process?.getBuiltinModule?.(name);
}
