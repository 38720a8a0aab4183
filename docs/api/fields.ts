import {
  DeclarationReflection,
  IntersectionType,
  LiteralType,
  ReferenceType,
  ReflectionType,
  UnionType,
  type SomeType,
} from 'typedoc';
import { wrappers } from './parameters.js';

/** Returns the fields of a type whose name ends in Options or Config; none for other types. */
export function optionsIn(type: SomeType | undefined): DeclarationReflection[] {
  if (type instanceof IntersectionType || type instanceof UnionType) return type.types.flatMap(optionsIn);
  if (!(type instanceof ReferenceType)) return [];
  if (!wrappers.includes(type.name)) return /(?:Options|Config)$/.test(type.name) ? fieldsOf(type.reflection) : [];
  const [wrapped, keys] = type.typeArguments ?? [];
  const listed = (keys instanceof UnionType ? keys.types : [keys]).map((key) =>
    key instanceof LiteralType ? key.value : undefined,
  );
  return optionsIn(wrapped).filter(({ name }) => {
    if (type.name === 'Pick') return listed.includes(name);
    return type.name !== 'Omit' || !listed.includes(name);
  });
}

/** Returns the fields of a method's configuration. */
export function configurationOf({ type }: DeclarationReflection): DeclarationReflection[] {
  const [configuration] =
    type instanceof ReferenceType && type.name === 'CallableMethod' ? (type.typeArguments ?? []) : [];
  return optionsIn(configuration);
}

function fieldsOf(reflection: ReferenceType['reflection']): DeclarationReflection[] {
  if (!(reflection instanceof DeclarationReflection)) return [];
  const { children, type } = reflection;
  return children ?? (type instanceof ReflectionType ? (type.declaration.children ?? []) : optionsIn(type));
}
