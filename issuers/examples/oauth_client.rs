//! A real OAuth 2.0 client: its fleet shares one token, and asks the issuer once per token life.

// README: from here
use token_manager::TokenManager;
use token_manager_issuers::{Client, ClientCredentials, Secret};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let issuer = ClientCredentials::discover("https://issuer.example.com")
        .client(Client::basic("billing", Secret::env("BILLING_SECRET")))
        .scope("invoices:read")
        .build()?;
    let manager = TokenManager::builder("billing-api").redis("redis://127.0.0.1:6379/")?.source(issuer).build()?;
    println!("Authorization: Bearer {}", manager.get()?.secret());
    Ok(())
}
