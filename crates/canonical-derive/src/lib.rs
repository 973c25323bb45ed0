//! `#[derive(Canonical)]`: the canonical form of a hardware block's state, field by field.
//!
//! Every field is part of the form unless an attribute says otherwise, so a register that is added to a block cannot be forgotten:
//!
//! | attribute | the field |
//! |---|---|
//! | none | is written by its own `Canonical` |
//! | `#[canon(skip = "reason")]` | is left out; the reason says why it can't matter |
//! | `#[canon(address)]` | is a main memory address (`u64`, or an `Option` or array of it) |
//! | `#[canon(load_scale)]` | is the scale of a load (`u32`), of which the form takes note |
//! | `#[canon(via = path)]` | is written by `path(&field, &mut Canon)` |
//! | `#[canon(valid_if = method)]` | is looked at only while `self.method()` holds, which other fields tell; may stand beside the others |
//!
//! `#[canon(via = path)]` on the type leaves the whole of it to `path(&self, &mut Canon)`.
//! The generated code names its traits by `crate::parts::canonical`, as it is only used inside the emulator.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Path, Result, parse_macro_input};

/// How a field enters the canonical form.
enum Treatment {
    Written,
    Skipped,
    Address,
    LoadScale,
    Via(Path),
}

/// How a field enters the canonical form, and the method that tells whether it does now.
fn treatment(attributes: &[Attribute]) -> Result<(Treatment, Option<Ident>)> {
    let (mut found, mut valid_if) = (Treatment::Written, None);
    for attribute in attributes.iter().filter(|a| a.path().is_ident("canon")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                let reason: LitStr = meta.value()?.parse()?;
                if reason.value().trim().is_empty() {
                    return Err(Error::new_spanned(&reason, "say why the field can't matter"));
                }
                found = Treatment::Skipped;
            } else if meta.path.is_ident("address") {
                found = Treatment::Address;
            } else if meta.path.is_ident("load_scale") {
                found = Treatment::LoadScale;
            } else if meta.path.is_ident("via") {
                found = Treatment::Via(meta.value()?.parse()?);
            } else if meta.path.is_ident("valid_if") {
                valid_if = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error(
                    "expected `skip = \"reason\"`, `address`, `load_scale`, `via = path` or `valid_if = method`",
                ));
            }
            Ok(())
        })?;
    }
    Ok((found, valid_if))
}

/// The statement that writes a field, of which `value` is a reference.
fn write_field(place: &str, value: &Tokens, attributes: &[Attribute]) -> Result<Tokens> {
    let (treatment, valid_if) = treatment(attributes)?;
    let write = match treatment {
        Treatment::Skipped => return Ok(quote! { let _ = #value; }),
        Treatment::Written => quote! { crate::parts::canonical::Canonical::canonical(#value, canon) },
        Treatment::Address => quote! { crate::parts::canonical::Addresses::addresses(#value, canon) },
        Treatment::LoadScale => quote! { canon.load_scale(*#value) },
        Treatment::Via(path) => quote! { #path(#value, canon) },
    };
    let valid = valid_if.map(|method| quote! { && self.#method() });
    Ok(quote! { if canon.keeps(#place) #valid { #write } })
}

/// The pattern that takes a variant or struct apart, and the statements that write its fields.
fn take_apart(place: &str, fields: &Fields) -> Result<(Tokens, Tokens)> {
    let mut names = Vec::new();
    let mut writes = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let name = field.ident.clone().unwrap_or_else(|| format_ident!("field_{i}"));
        let label = field.ident.as_ref().map_or_else(|| i.to_string(), Ident::to_string);
        writes.push(write_field(&format!("{place}.{label}"), &quote! { #name }, &field.attrs)?);
        names.push(name);
    }
    let pattern = match fields {
        Fields::Named(_) => quote! { { #(#names),* } },
        Fields::Unnamed(_) => quote! { ( #(#names),* ) },
        Fields::Unit => quote! {},
    };
    Ok((pattern, quote! { #(#writes)* }))
}

fn body(input: &DeriveInput) -> Result<Tokens> {
    let name = input.ident.to_string();
    if let (Treatment::Via(path), _) = treatment(&input.attrs)? {
        return Ok(quote! { #path(self, canon); });
    }
    match &input.data {
        Data::Struct(data) => {
            let (pattern, writes) = take_apart(&name, &data.fields)?;
            Ok(quote! { let Self #pattern = self; #writes })
        }
        Data::Enum(data) => {
            let mut arms = Vec::new();
            for (i, variant) in data.variants.iter().enumerate() {
                let (ident, number) = (&variant.ident, i as u8);
                let (pattern, writes) = take_apart(&format!("{name}::{ident}"), &variant.fields)?;
                arms.push(quote! { Self::#ident #pattern => { canon.byte(#number); #writes } });
            }
            Ok(quote! { match self { #(#arms)* } })
        }
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "a union has no canonical form")),
    }
}

/// Derives `Canonical`; see the crate.
#[proc_macro_derive(Canonical, attributes(canon))]
pub fn derive_canonical(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let body = match body(&input) {
        Ok(body) => body,
        Err(error) => return error.to_compile_error().into(),
    };
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    // A parameter that stands for payloads (`V: Values`) has no form of its own: its fields say what becomes of them.
    let is_values = |p: &syn::TypeParam| {
        p.bounds.iter().any(|b| matches!(b, syn::TypeParamBound::Trait(t) if t.path.segments.last().is_some_and(|s| s.ident == "Values")))
    };
    let parameters = input.generics.type_params().filter(|p| !is_values(p)).map(|p| &p.ident);
    let predicates = bounds.map(|b| b.predicates.iter().collect::<Vec<_>>()).unwrap_or_default();
    quote! {
        #[automatically_derived]
        impl #generics crate::parts::canonical::Canonical for #name #types
        where #(#predicates,)* #(#parameters: crate::parts::canonical::Canonical),*
        {
            fn canonical(&self, canon: &mut crate::parts::canonical::Canon) {
                #body
            }
        }
    }
    .into()
}
