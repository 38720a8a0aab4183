/** The built-in modules of Node that packages for pages use, too. */
interface NodeModules {
  readonly 'node:crypto': typeof import('node:crypto');
  readonly 'node:fs/promises': typeof import('node:fs/promises');
  readonly 'node:module': typeof import('node:module');
  readonly 'node:os': typeof import('node:os');
  readonly 'node:path': typeof import('node:path');
  readonly 'node:url': typeof import('node:url');
  readonly 'node:util': typeof import('node:util');
  readonly 'node:worker_threads': typeof import('node:worker_threads');
}

/** A built-in module of Node; undefined in a page. It is not imported, which bundlers of pages would fail to resolve. */
export function nodeModule<K extends keyof NodeModules>(name: K): NodeModules[K] | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): object | undefined } };
  return process?.getBuiltinModule?.(name) as NodeModules[K] | undefined;
}

/** A built-in module of Node, for code that no page runs. */
export function inNode<K extends keyof NodeModules>(name: K): NodeModules[K] {
  return nodeModule(name) as NodeModules[K];
}
